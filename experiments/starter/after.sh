#!/usr/bin/env bash
# What follows the training of a starter, in order: ship it, calibrate it, measure it, write every table that speaks of it.
# Each step leaves alone what it has done before, so that the script may be started again after an interruption.
#
#   MEDUNISEG_SHARED=../shared experiments/starter/after.sh [STEP...]     (default: all steps)
#
# Steps: ship calibrate postprocess evaluate nothing_there hounsfield quality adapt transfer refine
# `refine` needs the logs of all single-task networks (`run.py baselines`); `evaluate` takes those that are finished.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MEDUNISEG_SHARED="${MEDUNISEG_SHARED:-../shared}" PYTHONPATH="$PWD/src:$PWD"
python="${PYTHON:-.venv/bin/python}"
[ -x "$python" ] || python=python
split=runs/starter-16-fifth/split.json
shipped=src/meduniseg_core/weights/shipped

step() { # NAME: whether it is asked for
  local name
  for name in "${chosen[@]}"; do [ "$name" = "$1" ] && echo "== $1: $(date +%H:%M)" && return; done
  return 1
}

chosen=("$@")
[ $# -gt 0 ] || chosen=(ship calibrate postprocess evaluate nothing_there hounsfield quality adapt transfer refine)

if step ship; then "$python" experiments/starter/run.py ship; fi
if step calibrate; then
  "$python" experiments/quality/run.py observe --split "$split"
  "$python" experiments/quality/run.py calibrate --split "$split" --output runs/calibrated/starter.safetensors
  install -m 644 runs/calibrated/starter.safetensors "$shipped/starter.safetensors"
  (cd "$shipped" && sha256sum starter.safetensors > starter.safetensors.sha256)
fi
if step postprocess; then "$python" experiments/starter/run.py postprocess; fi
if step evaluate; then
  "$python" experiments/starter/run.py evaluate
  "$python" experiments/starter/run.py table
fi
if step nothing_there; then
  "$python" experiments/starter/nothing_there.py measure
  "$python" experiments/starter/nothing_there.py table
fi
if step hounsfield; then
  "$python" experiments/starter/run.py mean
  "$python" experiments/starter/hounsfield.py
fi
if step quality; then "$python" experiments/quality/run.py table --split "$split"; fi
if step adapt; then "$python" experiments/quick_adapt/run.py; fi
if step transfer; then
  "$python" experiments/transfer/run.py train
  mkdir -p experiments/transfer/results
  "$python" experiments/transfer/run.py table > experiments/transfer/results/table.md.new
  mv experiments/transfer/results/table.md.new experiments/transfer/results/table.md
fi
if step refine; then
  for what in choose train evaluate table; do "$python" experiments/refine/run.py "$what"; done
fi
