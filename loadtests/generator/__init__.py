"""The open-loop generator: a process of its own, so that neither the verdict's work nor a slow answer delays an arrival."""
