//! Changes of a definition's text that go with a change of the running guest.

use domain::DomainName;

use super::{Steps, change_definitions};
use crate::definitions::{self, Definitions};
use crate::jobs::Outcome;
use crate::services::Shared;

/// Changes the definition of a guest; the result is what it was.
pub(super) async fn change(
    services: &Shared,
    name: &DomainName,
    edit: impl Fn(&str) -> Result<String, String>,
) -> Result<String, String> {
    if services.definitions.is_transient(name) {
        return Err("its definition goes with the guest; change the running guest".to_owned());
    }
    let former = services.definitions.read(name).map_err(|fault| fault.to_string())?;
    let changed = edit(&former)?;
    definitions::check(&changed)?;
    define(services, name, changed).await?;
    Ok(former)
}

/// Makes a definition what it was, because the running guest was not changed.
pub(super) async fn put_back(services: &Shared, name: &DomainName, former: String) {
    if let Err(words) = define(services, name, former).await {
        tracing::warn!("the definition of guest '{name}' stays changed: {words}");
    }
}

async fn define(services: &Shared, name: &DomainName, xml: String) -> Result<(), String> {
    let key = name.clone();
    let change = move |files: &Definitions| files.define(&key, &xml);
    match change_definitions(services.clone(), change, &Steps::default()).await {
        Outcome::Done => Ok(()),
        Outcome::Canceled => Err("it was canceled".to_owned()),
        Outcome::Failed(words) => Err(words),
    }
}
