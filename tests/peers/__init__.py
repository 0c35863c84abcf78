"""The other engines that tests and benchmarks compare with: real ones, started here and stopped by process id.

Docker with BuildKit runs in a Debian chroot that mmdebstrap makes once (:mod:`tests.peers.chroot`); buildah, podman,
skopeo, umoci and a registry are the host's own packages. What cannot be had raises :class:`PeerUnavailable`; the
fixtures turn that into a skip with the reason, and CI turns the skip into a failure.
"""

from __future__ import annotations


class PeerUnavailable(Exception):
    """A peer cannot be had on this machine; the message says why and what would help."""
