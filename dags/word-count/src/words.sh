# SPDX-License-Identifier: Apache-2.0
# words.sh FILE: its words, lower-case, one a line, and how many there are.
set -eu
tr 'A-Z' 'a-z' < "$1" | tr -cs 'a-z' '\n' \
    | awk -v shortest="$MLOPS_PARAM_MIN_LENGTH" 'length($0) >= shortest' > "$MLOPS_OUTPUT_WORDS"
awk 'END { print NR }' "$MLOPS_OUTPUT_WORDS" > "$MLOPS_OUTPUT_TOTAL"
echo "$(cat "$MLOPS_OUTPUT_TOTAL") words of at least $MLOPS_PARAM_MIN_LENGTH letters"
