#!/usr/bin/env bash
# A short time on a borrowed GPU: tests on the device, the resource table, then training for the minutes that remain.
# Before, on this machine: python experiments/starter/gpu.py pack (fills runs/gpu, which travels with the work tree).
# There:                   OUT=folder scripts/gpu_session.sh [MINUTES] [DEVICE]
# Afterwards, here:        python experiments/starter/gpu.py merge FOLDER
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$SECONDS
minutes="${1:-9}"
device="${2:-cuda}"
out="${OUT:-runs/gpu/back}"
mkdir -p "$out"

# The machine has PyTorch and no network: what else is needed was carried as wheels.
path="$PWD/src:$PWD"
if compgen -G "runs/gpu/wheels/*.whl" >/dev/null && [ "$device" != cpu ]; then
  python3 -m pip install --quiet --no-index --no-deps --target runs/gpu-site runs/gpu/wheels/*.whl
  path="$path:$PWD/runs/gpu-site"
fi
export PYTHONPATH="$path"

{
  echo "# GPU session"
  echo
  echo '```'
  python3 -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU")'
  MEDUNISEG_TEST_DEVICE="$device" python3 -m pytest -q -p no:cacheprovider -W default -o addopts="" tests/device 2>&1 | tail -30
  echo '```'
  echo
  python3 experiments/starter/gpu.py table "$out" --device "$device"
} >"$out/report.md" 2>&1
cat "$out/report.md"

left="$(python3 -c "print(max(0.2, $minutes - ($SECONDS - $began) / 60))")"
if [ -f runs/gpu/starter.pack ]; then
  python3 experiments/starter/gpu.py train "$out" --device "$device" --minutes "$left" 2>&1 | tee "$out/train.log" | tail -40
fi
ls -l "$out"
