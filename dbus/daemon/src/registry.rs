//! The registry: the D-Bus interface by which a shim claims name and UUID of its guest.

mod request;

use std::collections::HashMap;
use std::time::Duration;

use zbus::message::Header;
use zbus::{Connection, OwnedFd, OwnedObjectPath, OwnedVariant, interface};

use request::Arguments;
pub(crate) use request::{Malformed, Request};

use crate::caller::{Admission, Caller, ask_bus};
use crate::failure::Failure;
use crate::keeper::KeeperHandle;

/// How long the reply waits for machined.
///
/// The reply waits at all so that `machinectl list` shows a guest right after `systemctl start`. Machined answers
/// in some milliseconds; when it does not, the guest must not suffer, and registers in the background.
const MACHINED_PATIENCE: Duration = Duration::from_secs(1);

/// The registry as one connection sees it.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Who decides.
    pub(crate) keeper: KeeperHandle,
    /// Who may ask.
    pub(crate) admission: Admission,
    /// Where calls come from.
    pub(crate) origin: Origin,
}

/// Where the calls of a connection come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// From many processes through a bus, whose daemon knows them.
    Bus,
    /// From the one process at the other end of a socket.
    Peer(Caller),
}

#[interface(name = "org.glassbox.Glassbox1.Registry", introspection_docs = false)]
impl Registry {
    /// Claims name and UUID of a guest for as long as the other end of `lifeline` is open.
    // The contract has five arguments, and the dispatcher adds two.
    #[allow(clippy::too_many_arguments)]
    #[zbus(out_args("domain_path"))]
    async fn register(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        name: &str,
        uuid: &str,
        leader: OwnedFd,
        lifeline: OwnedFd,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, Failure> {
        let caller = match self.origin {
            Origin::Bus => ask_bus(connection, &header).await?,
            Origin::Peer(caller) => caller,
        };
        self.admission.admit(caller)?;
        let (leader, lifeline) = (leader.into(), lifeline.into());
        let arguments = Arguments { name, uuid, leader, lifeline, options };
        let mut request = Request::read(arguments, caller.pid)?;
        request.claim.user = self.admission.user_of(caller.uid, &request.claim);
        if request.claim.user.is_some() && request.lifeline.maker() != Some(caller.uid) {
            let what = "lifeline: another account made it; make the socket pair as the caller";
            return Err(Failure::InvalidArgs(what.to_owned()));
        }
        let admitted = self.keeper.claim(request).await?;
        // Without a bus there is no object to wait for, and the claim holds all the same.
        drop(admitted.published.await);
        if tokio::time::timeout(MACHINED_PATIENCE, admitted.enrolled).await.is_err() {
            let name = admitted.guest.name();
            tracing::warn!(
                "guest '{name}' starts before machined answered in {MACHINED_PATIENCE:?}"
            );
        }
        Ok(admitted.guest.path())
    }
}
