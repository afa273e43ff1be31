#!/usr/bin/env bash
# Installs what is missing, then segments a real fundus photograph (it comes with scikit-image, nothing is downloaded)
# and, where ../shared or $MEDUNISEG_SHARED is present, two real volumes. Results: ./demo_output.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/bootstrap.sh
bootstrap ""
exec "$PYTHON" scripts/demo.py "$@"
