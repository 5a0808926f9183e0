"""mitate: will synthetic images help my vision model?"""

__version__ = "0.1.0"
