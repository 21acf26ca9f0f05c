"""The exceptions of tf2 lookups."""


class TransformException(Exception):
    """A transform could not be had."""


class LookupException(TransformException):
    """A frame does not exist."""


class ConnectivityException(TransformException):
    """Two frames exist in trees that are not connected."""


class ExtrapolationException(TransformException):
    """The time lies outside of the buffered times."""


class InvalidArgumentException(TransformException):
    """A frame name is empty or begins with a slash."""


class TimeoutException(TransformException):
    """The transform did not come in time."""
