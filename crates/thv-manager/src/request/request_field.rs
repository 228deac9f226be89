//! The parts of a request, by name.

use std::fmt;

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// A part of a [`RunRequest`](super::RunRequest), named as the field is. A front end says how its users know it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RequestField {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl RequestField {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name of the field.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

fields! {
    AllowDockerGateway "allow_docker_gateway",
    Args "args",
    CaBundle "ca_bundle",
    Cpus "cpus",
    EndpointPrefix "endpoint_prefix",
    Env "env",
    EnvFile "env_file",
    EnvFileDir "env_file_dir",
    ForwardHeaders "forward_headers",
    Group "group",
    Host "host",
    IsolateNetwork "isolate_network",
    Labels "labels",
    Memory "memory",
    Network "network",
    PermissionProfile "permission_profile",
    PidsLimit "pids_limit",
    PrintOverlays "print_overlays",
    Publish "publish",
    ReadOnly "read_only",
    Runtime "runtime",
    Secrets "secrets",
    SessionTtl "session_ttl",
    Stateless "stateless",
    TargetHost "target_host",
    TargetPort "target_port",
    Tools "tools",
    ToolsOverrideFile "tools_override_file",
    Transport "transport",
    Volumes "volumes",
}

impl fmt::Display for RequestField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
