"""The spec, one YAML file: `load` reads it, `schema` describes it, `template` starts one."""

from builder.spec.host_sections import with_proxy_image
from builder.spec.input_model import schema, template
from builder.spec.load import load, loads
from builder.spec.model import Admin, Arch, Aws, Base, Fail2ban, Proxy, Server, Spec, Ssh, Tls

__all__ = [
    "Admin",
    "Arch",
    "Aws",
    "Base",
    "Fail2ban",
    "Proxy",
    "Server",
    "Spec",
    "Ssh",
    "Tls",
    "load",
    "loads",
    "schema",
    "template",
    "with_proxy_image",
]
