"""The spec, one YAML file: `load` reads it, `schema` describes it, `template` is one to start from.

Core: model, the spec as checked values, which everybody may import. Towards it: load reads the file into a document,
which is checked against input_model and stack_input, whose single values have their types in value_types and their
rules in rules; host_sections (with ssh_keys) and stack_entries (with public_names, secret_env and outgoing) check the
rest, registries the logins, edge_rules what stands before the host, and Compose files are read by builder.compose.
messages has the texts of problems but those about an edge, schema the JSON Schema of input_model. Other packages import
what is named here, model, and `rules.near`; builder.starter also outgoing, registries, secret_env and ssh_keys.
"""

from builder.spec.edge_rules import with_edge_networks
from builder.spec.host_sections import with_proxy_image
from builder.spec.input_model import placeholder_key, template
from builder.spec.load import load, loads
from builder.spec.model import Admin, Arch, Aws, Base, Fail2ban, Proxy, Server, Spec, Ssh, Storage, Tls
from builder.spec.registries import role_policy
from builder.spec.schema import schema
from builder.spec.storage import with_storage

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
    "Storage",
    "Tls",
    "load",
    "loads",
    "placeholder_key",
    "role_policy",
    "schema",
    "template",
    "with_edge_networks",
    "with_proxy_image",
    "with_storage",
]
