"""A Kubernetes control plane of ordinary processes on loopback, for tests that need what only the real one does.

etcd, the API server with RBAC, admission and an audit log, the controller manager and the scheduler are the real programs; nodes and pods
are simulated by kwok, so no program of a pod ever runs, and nothing enforces its network. A keeper process (`keeper`) starts them and
ends them when its parent ends, however that dies; tests hold a `ControlPlane` (`handle`) and speak to it through an `Api` (`api`).
"""
