"""What has to be settled before JAX starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmeta.cli.options import HostOptions


def prepare_jax() -> None:
    """Chooses devices and where compiled programs are kept, before JAX starts."""
    from jaxmeta.parallel import request_cpu_devices
    from jaxmeta.runtime.compilation_cache import use_compilation_cache

    request_cpu_devices()
    use_compilation_cache()


def join(options: HostOptions) -> None:
    """Joins the other processes of the run, if it has any."""
    from jaxmeta.runtime import hosts
    from jaxmeta_envs.core.errors import require

    given = (options.coordinator, options.processes, options.process_id)
    if options.distributed:
        hosts.connect(*given)
    else:
        said = "absent without --distributed"
        require(given == (None,) * 3, "coordinator, processes, process_id", given, said)
