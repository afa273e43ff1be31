#!/usr/bin/env bash
# A short time on a borrowed GPU: the resource table, tests on the device, and the starter's trainings side by side.
# Before, here:  python experiments/starter/gpu.py pack        (fills runs/gpu, which travels with the work tree)
# There:         OUT=folder scripts/gpu_session.sh [DEVICE] [MINUTES of training] [MINUTES to wait for finished models]
# and again:     python3 experiments/starter/gpu.py collect FOLDER --minutes N     (the trainings go on between the calls)
# After, here:   python experiments/starter/gpu.py merge FOLDER
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
device="${1:-cuda}"
minutes="${2:-11}"
wait="${3:-1}"
out="${OUT:-runs/gpu/back}"
there=runs/gpu-run
rm -rf "$there"
mkdir -p "$out" "$there"

# The machine has PyTorch and no network: what else is needed was carried as wheels. Its images are in the pack.
path="$PWD/src:$PWD"
if compgen -G "runs/gpu/wheels/*.whl" >/dev/null && [ "$device" != cpu ]; then
  python3 -m pip install --quiet --no-index --no-deps --no-compile --target runs/gpu-site runs/gpu/wheels/*.whl
  path="$path:$PWD/runs/gpu-site"
fi
export PYTHONPATH="$path" PYTHONUNBUFFERED=1 MEDUNISEG_SHARED="${MEDUNISEG_SHARED:-/nowhere}"

# Begins by unpacking, and waits for the file "go": the table is measured on an idle device.
setsid nohup python3 experiments/starter/gpu.py jobs --device "$device" --minutes "$minutes" >"$there/manager.log" 2>&1 &

# Small kernels of several processes run side by side through the Multi-Process Service, where there is one.
pipe=""
if [ "$device" != cpu ] && command -v nvidia-cuda-mps-control >/dev/null; then
  mkdir -p /tmp/mps/pipe /tmp/mps/log
  (
    export CUDA_MPS_PIPE_DIRECTORY=/tmp/mps/pipe CUDA_MPS_LOG_DIRECTORY=/tmp/mps/log
    nvidia-cuda-mps-control -d && timeout 60 python3 -c 'import torch; print(float(torch.ones(9, device="cuda").sum()))' \
      && touch "$there/mps"
  ) >"$there/mps.txt" 2>&1 &
  probe=$!
fi

{
  echo "# GPU session"
  echo
  echo '```'
  python3 -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU")'
  echo '```'
  echo
  python3 experiments/starter/gpu.py table "$out" --device "$device"
} >"$out/report.md" 2>&1
[ -n "${probe:-}" ] && wait "$probe"
[ -f "$there/mps" ] && pipe=/tmp/mps/pipe
echo "$pipe" >"$there/go"
{
  echo
  echo '```'
  MEDUNISEG_TEST_DEVICE="$device" python3 -m pytest -q -p no:cacheprovider -W default -o addopts="" tests/device 2>&1 | tail -30
  echo '```'
} >>"$out/report.md" 2>&1
cat "$out/report.md" "$there"/mps.txt "$there/manager.log"
python3 experiments/starter/gpu.py collect "$out" --minutes "$wait"
ls -l "$out"
