# SPDX-License-Identifier: Apache-2.0
# Metrics as JSON: awk -f measure.awk -v total=N counts.tsv
$1 > most { most = $1 }
END {
    if (total == 0) {
        print "there are no words to measure"
        exit 1
    }
    printf "{\"words\": %d, \"distinct\": %d, \"richness\": %.4f, \"most\": %d}\n", total, NR, NR / total, most \
        > ENVIRON["MLOPS_OUTPUT_METRICS"]
}
