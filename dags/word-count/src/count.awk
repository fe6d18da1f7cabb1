# SPDX-License-Identifier: Apache-2.0
# Count equal lines: one "count<TAB>word" for each word.
{ count[$0]++ }
END {
    out = ENVIRON["MLOPS_OUTPUT_COUNTS"]
    printf "" > out  # no words make an empty file, not none
    for (word in count)
        print count[word] "\t" word > out
}
