"""Process nodes: nodes of a test's cluster on which containers run as ordinary processes of this machine. A test tool, no kubelet.

One agent process (`agent`) registers a few nodes, keeps their leases, and runs every pod that the scheduler binds to them. The control
plane beside it is the real one, so workloads, rollouts, evictions, endpoints, jobs and `helm install` are Kubernetes' own; what a kubelet,
a network and a name server would do is done here, without root, a container engine or an image:

- **An image** is a folder (`images`): a program that stands for the ENTRYPOINT, the ENV lines and the WORKDIR.
- **A pod's address** is 10.N.x.y for the cluster and 127.N.x.y for processes, N drawn once for each agent; all of 127/8 is this machine on
  Linux, and the API server takes no loopback address into an EndpointSlice. A ClusterIP 10.96.x.y is likewise 127.96.x.y (`addresses`).
- **A container's environment** is what its manifest says, out of fields, ConfigMaps and Secrets, and nothing of this machine's. It has
  neither a mount nor a network namespace of its own, so four things in its values and arguments are translated (`translation`): paths at a
  mount become the volume's folder; `0.0.0.0:` becomes the pod's address, so that pods of one port stand side by side; the name of a
  headless Service becomes a `dns://` target of gRPC that asks the agent's name server; the name of a ClusterIP becomes its address.
  A pod with a token of a service account finds it in a file that KUBECONFIG names.
- **Volumes** are folders: emptyDir goes with its pod, a claim's folder stays (`volumes`).
- **A pod's life** (`pods`, `containers`, `probes`): init containers, startup, readiness and liveness probes with their thresholds, restart
  policy with CrashLoopBackOff, preStop, SIGTERM, grace, SIGKILL, statuses and conditions, and the final deletion.
- **Names and doors**: the name server answers for Services out of EndpointSlices and, like a cluster's resolver, repeats an answer for five
  seconds (`names`). A ClusterIP is a forwarder to ready endpoints; whom it cannot connect to anybody is refused, and that is written down
  (`doors`).

What it does not do: enforce limits, users, read-only roots or network policies; report metrics; run sidecars, ephemeral containers or
postStart hooks; answer for pods by name; take up pods of an earlier agent. A pod that asks for what a test would take for done fails at
once with the reason `Unsupported` and a sentence. A node's capacity is made up: this machine is shared by all of them.
"""
