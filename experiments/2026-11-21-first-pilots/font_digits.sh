#!/usr/bin/env bash
# Digits drawn from fonts by ImageMagick: synthetic images made by another program. Usage: font_digits.sh FOLDER [PER_CLASS]
set -euo pipefail
out=${1:?folder}; n=${2:-120}
convert=$(command -v convert-im6.q16 || command -v convert)
mapfile -t fonts < <(fc-list -f '%{file}\n' | grep -E '(DejaVu|Liberation|Free)(Sans|Serif|Mono)' | grep -iv math | sort -u)
[ "${#fonts[@]}" -ge 10 ] || { echo "needs ten fonts of the DejaVu, Liberation or Free families" >&2; exit 1; }
RANDOM=7
for digit in 0 1 2 3 4 5 6 7 8 9; do
  mkdir -p "$out/$digit"
  for ((i = 0; i < n; i++)); do
    font=${fonts[$((RANDOM % ${#fonts[@]}))]}
    "$convert" -background black -fill white -font "$font" -pointsize 60 "label:$digit" -trim +repage -resize '48x60!' \
      -background black -distort SRT "$((95 + RANDOM % 15))e-2,$((RANDOM % 21 - 10))" -blur 0x$((1 + RANDOM % 3)) \
      -gravity center -extent 64x64 -resize 8x8 -depth 8 -define png:exclude-chunks=date,time "$out/$digit/$(printf '%04d' "$i").png"
  done
done
