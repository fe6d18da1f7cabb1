# SPDX-License-Identifier: Apache-2.0
# The most frequent words as a Markdown table; of equally frequent ones, the alphabet decides.
set -eu
{
    echo "| times | word |"
    echo "|---|---|"
    LC_ALL=C sort -k1,1nr -k2 "$MLOPS_INPUT_COUNTS" | head -n "$MLOPS_PARAM_TOP" | awk -F '\t' '{ print "| " $1 " | " $2 " |" }'
} > "$MLOPS_OUTPUT_REPORT"
cat "$MLOPS_OUTPUT_REPORT"
