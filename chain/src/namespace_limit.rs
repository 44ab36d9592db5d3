//! ENOSPC for a new namespace: a limit per user and user namespace (namespaces(7)), or the nesting of 32.

use std::fs::read_to_string;

/// `kind` is its name in /proc/PID/ns. None if the limit cannot be read.
pub fn why_no_new_namespace(kind: &str) -> Option<String> {
    let name = format!("max_{kind}_namespaces");
    let limit: i64 = read_to_string(format!("/proc/sys/user/{name}")).ok()?.trim().parse().ok()?;
    Some(match limit {
        //: new namespaces; new mount namespace | clone, unshare: ENOSPC | user.max_KIND_namespaces is 0 | /proc/sys/user |
        //: isolate/refusals::a_limit_of_nothing_is_named
        ..=0 => format!("user.{name} is {limit}: sysctl user.{name}=10000"),
        _ if kind == "user" => {
            //: new namespaces | clone, unshare: ENOSPC | a limit on user namespaces is reached | each kind is tried alone; the
            //: depth and the namespaces around cannot be seen | isolate/refusals::the_deepest_nesting_is_told
            format!(
                "user.{name} ({limit} here) is reached, here or in an outer user namespace, or they are nested 32 deep"
            )
        }
        //: new namespaces; new mount namespace | clone, unshare: ENOSPC | a limit on another kind is reached | each kind is
        //: tried alone | isolate/refusals::a_limit_that_is_reached_is_named_among_others
        _ => format!("user.{name} ({limit} here) is reached, here or in an outer user namespace"),
    })
}
