//! What a server may read, write and reach.

use crate::record::{Field, go_struct, go_struct_field};

go_struct! {
    /// A permission profile, as profile files and run configurations hold it.
    ///
    /// All keys are optional. Mount declarations are kept as text; [`Mount::parse`](crate::Mount::parse) reads them.
    pub struct PermissionProfile {
        /// A name for people; the built-in ones are `none` and `network`.
        name: String = "name";
        /// Mount declarations that are read-only inside.
        read: Vec<String> = "read";
        /// Mount declarations that can be written inside.
        write: Vec<String> = "write";
        /// What may be reached, and by whom.
        network: Option<NetworkPermissions> = "network";
        /// Whether the container gets all capabilities and devices of the host.
        privileged: bool = "privileged";
    }
}

go_struct! {
    /// The network part of a profile.
    pub struct NetworkPermissions {
        /// The engine's network mode; empty, `bridge` and `default` are the modes that isolation works in.
        mode: String = "mode";
        /// What the server may reach; absent means nothing where isolation is enforced.
        outbound: Option<OutboundPermissions> = "outbound";
        /// Who may reach the server.
        inbound: Option<InboundPermissions> = "inbound";
    }
}

go_struct! {
    /// What a server may reach.
    pub struct OutboundPermissions {
        /// Everything; the lists below are then without meaning.
        insecure_allow_all: bool = "insecure_allow_all";
        /// Host names; one that begins with a dot is a domain and its subdomains.
        allow_host: Vec<String> = "allow_host";
        /// TCP ports.
        allow_port: Vec<u16> = "allow_port";
    }
}

go_struct! {
    /// Who may reach a server.
    pub struct InboundPermissions {
        /// Host names that clients may use.
        allow_host: Vec<String> = "allow_host";
    }
}

go_struct_field!(
    PermissionProfile,
    NetworkPermissions,
    OutboundPermissions,
    InboundPermissions
);

impl PermissionProfile {
    /// The built-in profile `none`: no mounts, nothing to reach.
    pub fn none() -> Self {
        Self::with_outbound("none", OutboundPermissions::default())
    }

    /// The built-in profile `network`: no mounts, everything may be reached.
    pub fn network() -> Self {
        let everything = OutboundPermissions {
            insecure_allow_all: true,
            ..OutboundPermissions::default()
        };
        Self::with_outbound("network", everything)
    }

    /// The built-in profile of that name; `stdio` is another name of `none`.
    pub fn builtin(name: &str) -> Option<Self> {
        match name {
            "none" | "stdio" => Some(Self::none()),
            "network" => Some(Self::network()),
            _ => None,
        }
    }

    fn with_outbound(name: &str, outbound: OutboundPermissions) -> Self {
        Self {
            name: name.to_owned(),
            network: Some(NetworkPermissions {
                outbound: Some(outbound),
                inbound: Some(InboundPermissions::default()),
                ..NetworkPermissions::default()
            }),
            ..Self::default()
        }
    }

    /// Reads a profile file. Unknown keys are kept and ignored.
    pub fn from_json(bytes: &[u8]) -> Result<Self, crate::RunConfigError> {
        Ok(Self::read(crate::run_config::parse_document(bytes)?)?)
    }

    /// Drops the keys that this version does not know, on every level.
    pub fn forget_unknown(&mut self) {
        self.extra.0.clear();
        let Some(network) = &mut self.network else { return };
        network.extra.0.clear();
        if let Some(outbound) = &mut network.outbound {
            outbound.extra.0.clear();
        }
        if let Some(inbound) = &mut network.inbound {
            inbound.extra.0.clear();
        }
    }

    /// The profile as a file's text, with an indent of two spaces and a newline at the end.
    pub fn to_json(&self) -> String {
        crate::run_config::document(&self.write(), true) + "\n"
    }

    /// The engine's network mode; empty when none is asked for.
    pub fn network_mode(&self) -> &str {
        self.network.as_ref().map_or("", |network| network.mode.as_str())
    }

    /// Whether the network mode is one in which isolation can be enforced: none given, `bridge` or `default`.
    pub fn has_bridge_mode(&self) -> bool {
        matches!(self.network_mode(), "" | "bridge" | "default")
    }

    /// Whether the profile, taken at its word, keeps the server from reaching something that an ordinary container
    /// can reach.
    ///
    /// Without a `network` section nothing is limited. With one, a missing `outbound` section means that nothing may be
    /// reached. The mode `none` limits by itself, without anybody's help.
    pub fn limits_outbound(&self) -> bool {
        self.network.as_ref().is_some_and(|network| {
            !network
                .outbound
                .as_ref()
                .is_some_and(|outbound| outbound.insecure_allow_all)
        })
    }
}
