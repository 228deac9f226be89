//! Who may call a workload, and which credentials it passes on: `oidc_config`, `token_exchange_config`,
//! `upstream_swap_config`, `aws_sts_config`.

use crate::record::{go_struct, go_struct_field};

go_struct! {
    /// `oidc_config`: how clients of the proxy are authenticated. All keys are always written.
    pub struct OidcConfig {
        /// Issuer of the tokens.
        issuer: String = "Issuer" [always url];
        /// Audience that a token must have.
        audience: String = "Audience" [always];
        /// Address of the key set, where it is not discovered.
        jwks_url: String = "JWKSURL" [always url];
        /// Client id for introspection.
        client_id: String = "ClientID" [always];
        /// Client secret for introspection.
        client_secret: String = "ClientSecret" [always secret];
        /// File with the certificate authorities of the issuer.
        ca_cert_path: String = "CACertPath" [always];
        /// File with a token for fetching the key set.
        auth_token_file: String = "AuthTokenFile" [always];
        /// Whether the issuer may have a private address.
        allow_private_ip: bool = "AllowPrivateIP" [always];
        /// Whether the issuer may be reached over plain HTTP.
        insecure_allow_http: bool = "InsecureAllowHTTP" [always];
        /// Introspection endpoint for opaque tokens.
        introspection_url: String = "IntrospectionURL" [always url];
        /// The resource that the proxy names itself (RFC 9728).
        resource_url: String = "ResourceURL" [always url];
        /// Scopes that the resource metadata lists; written as `null` when there is none.
        scopes: Option<Vec<String>> = "Scopes" [always];
    }
}

go_struct! {
    /// `token_exchange_config`: the caller's token is exchanged for another one (RFC 8693).
    pub struct TokenExchangeConfig {
        /// Token endpoint.
        token_url: String = "token_url" [always url];
        /// Client id at that endpoint.
        client_id: String = "client_id" [always];
        /// Client secret at that endpoint.
        client_secret: String = "client_secret" [always secret];
        /// Audience of the new token.
        audience: String = "audience" [always];
        /// Scopes of the new token.
        scopes: Vec<String> = "scopes";
        /// Type of the caller's token.
        subject_token_type: String = "subject_token_type";
        /// `replace` or `custom`: where the new token goes.
        header_strategy: String = "header_strategy";
        /// Header for the new token when the strategy is `custom`.
        external_token_header_name: String = "external_token_header_name";
    }
}

go_struct! {
    /// `upstream_swap_config`: the caller's token is replaced by one of an upstream provider.
    pub struct UpstreamSwapConfig {
        /// `replace` or `custom`.
        header_strategy: String = "header_strategy";
        /// Header when the strategy is `custom`.
        custom_header_name: String = "custom_header_name";
        /// Name of the upstream provider.
        provider_name: String = "provider_name" [always];
    }
}

go_struct! {
    /// `aws_sts_config`: the caller's identity is exchanged for AWS credentials.
    pub struct AwsStsConfig {
        /// AWS region.
        region: String = "region" [always];
        /// AWS service that requests are signed for.
        service: String = "service" [always];
        /// Role when no mapping matches.
        fallback_role_arn: String = "fallback_role_arn";
        /// Which claim leads to which role.
        role_mappings: Vec<RoleMapping> = "role_mappings";
        /// Claim that mappings look at; empty means `groups`.
        role_claim: String = "role_claim";
        /// Length of a session in seconds, 900 to 43200; 0 means 3600.
        session_duration: i32 = "session_duration";
        /// Claim that names the session.
        session_name_claim: String = "session_name_claim";
        /// Provider whose token is the subject.
        subject_provider_name: String = "subject_provider_name";
    }
}

go_struct! {
    /// One rule of an [`AwsStsConfig`].
    pub struct RoleMapping {
        /// Value of the claim.
        claim: String = "claim";
        /// Expression over the claims.
        matcher: String = "matcher";
        /// Role that it leads to.
        role_arn: String = "role_arn" [always];
        /// Lower numbers are tried first.
        priority: Option<i64> = "priority";
    }
}

go_struct_field!(
    OidcConfig,
    TokenExchangeConfig,
    UpstreamSwapConfig,
    AwsStsConfig,
    RoleMapping
);
