"""What goes wrong with a pod before any of its programs runs."""


class Unsupported(Exception):
    """The pod asks for something that process nodes do not do; it fails, so that no test takes it for done."""


class NotThere(Exception):
    """A ConfigMap, Secret or claim that the pod names is not there yet; it is asked for again."""
