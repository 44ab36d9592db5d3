//! Capabilities that pass from link to link of a user who stays who he is. An exec by a user that is not root leaves
//! only ambient ones (capabilities(7)); COMMAND is to have none of them.

use anyhow::{Context, Result};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

pub(crate) fn give_up() -> Result<()> {
    let had = capabilities(None).context("capabilities")?;
    // What is not inheritable any more is not ambient, either (capset(2)).
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..had };
    set_capabilities(None, sets).context("capset")
}
