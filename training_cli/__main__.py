"""``python -m training_cli``: the command where its script is not on the path."""

from training_cli.main import run

if __name__ == "__main__":
    run()
