"""The rules of short links: what one is, what codes and destinations may be, and when a link redirects. No I/O."""
