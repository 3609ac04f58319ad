//! The marks that overlayfs leaves in the directory of writes: what they hide stays hidden when that directory is a layer.
//!
//! Mounts with `userxattr` mark a folder that shows nothing of the layers below it with the extended attribute
//! `user.overlay.opaque` = `y`, and a name that is gone with a character device 0:0
//! (Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::path::Path;

use super::{Dir, TreeError};

#[cfg(target_os = "linux")]
const OPAQUE: &str = "user.overlay.opaque";

/// What overlayfs gives a folder that it copied up; without a value: from somewhere that is not known.
#[cfg(target_os = "linux")]
const ORIGIN: &str = "user.overlay.origin";

#[cfg(target_os = "linux")]
impl Dir {
    /// Whether this open folder hides what lies below it.
    pub fn is_opaque(&self) -> Result<bool, TreeError> {
        use rustix::io::Errno;
        let mut value = [0_u8; 8];
        match rustix::fs::fgetxattr(self.fd(), OPAQUE, &mut value) {
            Ok(length) => Ok(&value[..length] == b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(TreeError::from_errno(Path::new(OPAQUE), errno)),
        }
    }

    /// Makes this open folder hide what lies below it.
    pub fn set_opaque(&self) -> Result<(), TreeError> {
        rustix::fs::fsetxattr(self.fd(), OPAQUE, b"y", rustix::fs::XattrFlags::empty())
            .map_err(|errno| TreeError::from_errno(Path::new(OPAQUE), errno))
    }

    /// Makes `name` in this open folder hide what has that name below. Needs no right since Linux 5.8.
    ///
    /// Where nothing lies below the folder, overlayfs looks for whiteouts only in one that says it was copied up: in any
    /// other they would be seen as devices. So the folder gets that mark too.
    pub fn make_whiteout(&self, name: &Path) -> Result<(), TreeError> {
        use rustix::fs::{FileType, Mode, XattrFlags};
        let failed = |errno| TreeError::from_errno(name, errno);
        rustix::fs::fsetxattr(self.fd(), ORIGIN, b"", XattrFlags::empty()).map_err(failed)?;
        rustix::fs::mknodat(self.fd(), name, FileType::CharacterDevice, Mode::empty(), 0).map_err(failed)
    }

    /// Writes everything of this folder's file system to the disk.
    pub fn sync_file_system(&self) -> Result<(), TreeError> {
        rustix::fs::syncfs(self.fd()).map_err(|errno| TreeError::from_errno(Path::new("."), errno))
    }
}

/// Other systems have no overlayfs, so nothing is hidden and nothing has to be.
#[cfg(not(target_os = "linux"))]
impl Dir {
    /// Whether this open folder hides what lies below it.
    pub fn is_opaque(&self) -> Result<bool, TreeError> {
        Ok(false)
    }

    /// Makes this open folder hide what lies below it.
    pub fn set_opaque(&self) -> Result<(), TreeError> {
        Err(TreeError::from_errno(Path::new("."), rustix::io::Errno::NOTSUP))
    }

    /// Makes `name` in this open folder hide what has that name below.
    pub fn make_whiteout(&self, name: &Path) -> Result<(), TreeError> {
        Err(TreeError::from_errno(name, rustix::io::Errno::NOTSUP))
    }

    /// Writes everything to the disk.
    pub fn sync_file_system(&self) -> Result<(), TreeError> {
        rustix::fs::sync();
        Ok(())
    }
}
