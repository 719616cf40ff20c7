//! The name under which the server knows who holds: host, process, and a part that nobody else has.

use nix::unistd::Pid;

/// Makes one up for this process.
pub(crate) fn name_for(process: Pid) -> String {
    fencelock::owner_of(process.as_raw().unsigned_abs())
}

/// "host:pid" of a name that was made up so; any other as it is.
pub(crate) fn short(owner: &str) -> &str {
    match owner.rsplit_once(':') {
        Some((name, random)) if random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_up_is_shown_without_its_random_part() {
        let name = name_for(Pid::from_raw(812));
        assert!(short(&name).ends_with(":812"), "{name}");
        assert_ne!(name_for(Pid::this()), name_for(Pid::this()));
        assert_eq!(short("alice"), "alice");
        assert_eq!(short("job:7"), "job:7");
    }
}
