//! Registries of MCP servers.
