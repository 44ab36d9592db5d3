//! Limits of setrlimit(2), by the names of prlimit(1).

use std::fmt;

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use nix::errno::Errno;
use nix::libc::{RLIM_INFINITY, rlim_t};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::Rlimit;

pub struct Limit {
    asked: Rlimit,
    resource: Resource,
}

const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

impl Limit {
    pub fn plan(asked: &Rlimit) -> Result<Limit> {
        let found = NAMES.iter().find(|(name, _)| *name == asked.name);
        let Some((_, resource)) = found else {
            let names = NAMES.map(|(name, _)| name).join(", ");
            return Err(anyhow!("--rlimit {}: no such limit", asked.name)).hint(names);
        };
        if value(asked.soft) > value(asked.hard) {
            bail!("--rlimit {}: the soft limit is above the hard one", asked.name);
        }
        Ok(Limit { asked: asked.clone(), resource: *resource })
    }

    pub fn perform(&self) -> Result<()> {
        match setrlimit(self.resource, value(self.asked.soft), value(self.asked.hard)) {
            Err(Errno::EPERM) => {
                let (_, hard) = getrlimit(self.resource).context("getrlimit")?;
                Err(Errno::EPERM).context("setrlimit").hint(self.why_refused(hard))
            }
            result => result.context("setrlimit"),
        }
    }
}

impl Limit {
    fn why_refused(&self, hard: rlim_t) -> String {
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        match most {
            Some(most) if self.asked.name == "nofile" && value(self.asked.hard) > most => {
                //: --rlimit nofile | setrlimit: EPERM | nobody may have more than fs.nr_open | the sysctl |
                //: isolate/refusals_privileges::why_a_limit_is_refused_is_told
                format!("fs.nr_open is {most}, and not even root may have more: sysctl fs.nr_open")
            }
            _ => {
                let hard = if hard == RLIM_INFINITY { "unlimited".to_owned() } else { hard.to_string() };
                //: --rlimit | setrlimit: EPERM | the hard limit is lower, and there is no CAP_SYS_RESOURCE | the other
                //: cause does not hold | isolate/refusals_privileges::why_a_limit_is_refused_is_told
                format!("the hard limit is {hard}, and only CAP_SYS_RESOURCE can raise it")
            }
        }
    }
}

fn value(limit: Option<u64>) -> rlim_t {
    limit.unwrap_or(RLIM_INFINITY)
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        write!(f, "prlimit --pid $$ --{}={}:{}", self.asked.name, shown(self.asked.soft), shown(self.asked.hard))
    }
}
