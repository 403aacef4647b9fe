"""The programs of a cluster, built from their Go modules: `make cluster-tools`.

Each family has a module of its own in a folder beside this file, since one for all would fight over the versions that they share. Its
go.mod pins every version and its go.sum every checksum; `pin` rewrites both when a family moves on. Built programs lie outside of the
tree, in a folder named after the digest of all that decides about them: another version is another folder, and what lies there is
whole, because each program is moved there after it was built.
"""
