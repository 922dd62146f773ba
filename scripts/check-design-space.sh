#!/usr/bin/env bash
# Trains every prediction along every noise schedule at smoke size, samples each with Heun's method, and prints a table of their losses
# and evaluations. Ends with an error where one does not run or its test loss does not fall.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -q -p exp-design-space
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

schedules="cosine sigmoid linear_alpha_bar linear_beta vp ve edm rectified_flow"
predictions=$(for schedule in $schedules; do
    for prediction in eps v x0 flow; do echo "$prediction;$schedule"; done
done; echo "edm;edm"; echo "edm mean=-0.4;edm"; echo "ve;ve")

rose=0
echo "| prediction | schedule | test loss, epoch 1 | epoch 2 | evaluations | FID |"
echo "| --- | --- | --- | --- | --- | --- |"
while IFS=';' read -r prediction schedule; do
    out=$folder/run
    rm -rf "$out"
    target/release/exp-design-space --preset smoke --prediction "$prediction" --schedule "$schedule" \
        --setting "heun 10" --out "$out" "$@" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
    losses=$(tail -n +2 "$out/train.csv" | cut -d, -f6 | xargs printf '%.4f ')
    read -r first second <<<"$losses"
    # Of the table's rows the last one is the samples'.
    row=$(head -1 "$out/samples.csv"; tail -1 "$out/samples.csv")
    column() { awk -F, -v name="$1" 'NR==1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR==2 { print $at }' <<<"$row"; }
    printf '| %s | %s | %s | %s | %s | %.0f |\n' "$prediction" "$schedule" "$first" "$second" "$(column nfe)" "$(column fid)"
    awk -v a="$first" -v b="$second" 'BEGIN { exit !(b < a) }' || rose=$((rose + 1))
done <<<"$predictions"
echo "losses that did not fall: $rose"
[ "$rose" = 0 ]
