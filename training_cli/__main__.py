"""``python -m training_cli``: for ``torchrun -m training_cli train ...``, and where the script is not on the path."""

from training_cli.main import run

if __name__ == "__main__":
    run()
