"""What theory says training will do."""

from ntkengine.predict.dynamics import max_learning_rate

__all__ = ["max_learning_rate"]
