//! Which tools clients see, and under which names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thv_core::{Json, MiddlewareConfig, RunConfig, ToolOverride};

use super::{Files, RequestField, RunRequest, invalid, refused, refused_value, shown};
use crate::{Error, Result};

/// The filter and the overrides that `request` asks for.
pub(super) fn apply(
    request: &RunRequest,
    config: &mut RunConfig,
    files: &dyn Files,
    absolute: &dyn Fn(&Path) -> Result<PathBuf>,
) -> Result<()> {
    if request.tools.iter().any(String::is_empty) {
        return Err(refused(RequestField::Tools, "a tool has a name"));
    }
    config.tools_filter.clone_from(&request.tools);
    config.tools_override.clone_from(&request.tools_override);
    if let Some(path) = &request.tools_override_file {
        let path = absolute(path)?;
        let text = files.read(&path).map_err(|source| Error::Io {
            action: format!("read the tool overrides {}", path.display()),
            source,
        })?;
        config.tools_override.extend(overrides(&text, &path)?);
    }
    check(&config.tools_override)?;
    if !config.tools_filter.is_empty() || !config.tools_override.is_empty() {
        let parameters = parameters(config);
        let entry = |kind: &str| MiddlewareConfig {
            kind: kind.to_owned(),
            parameters: parameters.clone(),
            ..MiddlewareConfig::default()
        };
        let list = [entry("tool-filter"), entry("tool-call-filter")];
        config.middleware_configs.splice(0..0, list);
    }
    config
        .middleware_configs
        .splice(0..0, request.middleware.iter().cloned());
    Ok(())
}

/// What stands below `toolsOverride` in a file.
fn overrides(text: &str, path: &Path) -> Result<BTreeMap<String, ToolOverride>> {
    let bad =
        |detail: String| refused_value(RequestField::ToolsOverrideFile, &path.to_string_lossy(), detail);
    let json = Json::parse(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let Json::Object(mut pairs) = json else {
        return Err(bad("it is no JSON object".into()));
    };
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_str().to_owned()).collect();
    if keys != ["toolsOverride"] {
        return Err(bad(format!(
            "it has the one key \"toolsOverride\", not {}",
            shown(&keys.join(", "))
        )));
    }
    let value = pairs.remove(0).1;
    let document = Json::Object(vec![("tools_override".into(), value)]);
    let text = thv_core::gojson::to_string(&document).map_err(|error| bad(error.to_string()))?;
    let config = RunConfig::from_json(text.as_bytes());
    Ok(config.map_err(|error| bad(error.to_string()))?.tools_override)
}

fn check(overrides: &BTreeMap<String, ToolOverride>) -> Result<()> {
    match thv_core::enforcement::unclear_override(overrides) {
        None => Ok(()),
        Some(tool) => Err(invalid(
            format!("override of tool \"{}\"", shown(tool)),
            "it gives a name or a description, and no name that another tool has by then",
        )),
    }
}

/// As ToolHive stores them.
pub(crate) fn parameters(config: &RunConfig) -> Json {
    let filter = match config.tools_filter.as_slice() {
        [] => Json::Null,
        names => names.iter().map(|name| Json::from(name.as_str())).collect(),
    };
    let shown = |shown: &ToolOverride| {
        Json::Object(vec![
            ("name".into(), shown.name.as_str().into()),
            ("description".into(), shown.description.as_str().into()),
        ])
    };
    let overrides = config.tools_override.iter();
    let overrides = overrides.map(|(tool, of)| (tool.as_str().into(), shown(of)));
    Json::Object(vec![
        ("filter_tools".into(), filter),
        ("tools_override".into(), Json::Object(overrides.collect())),
    ])
}
