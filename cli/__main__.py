"""``python -m trajweight.cli`` is the command ``trajweight``."""

from trajweight.cli.main import app

if __name__ == "__main__":
    app()
