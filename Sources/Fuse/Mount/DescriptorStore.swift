// Keeping a mount with systemd's descriptor store instead of a holder: the descriptor and a memory file with the
// state are handed to systemd once, and come back to the next process of the service. Mounting is done here,
// through libfuse.
import CFuse
import CSheep
import Glibc
import Model

package final class DescriptorStore: MountKeeper {
    /// Sends a message with descriptors to systemd (sd_notify); false when there is none to hear it.
    package typealias Notify = (_ message: String, _ descriptors: [Int32]) -> Bool

    package let mountpoint: String
    package let mountId: UInt64
    package let descriptor: Int32
    package private(set) var stored: [String: [UInt8]]
    private let file: StateFile
    private let notify: Notify
    private var isOpen = true

    /// The names in the store; `name` tells several mounts of one service apart (letters and digits).
    package static func names(_ name: String) -> (mount: String, state: String) {
        ("sheep-mount-\(name)", "sheep-state-\(name)")
    }

    private init(descriptor: Int32, file: StateFile, contents: StateFile.Contents, notify: @escaping Notify) {
        mountpoint = contents.mountpoint
        mountId = contents.mountId
        stored = contents.values
        self.descriptor = descriptor
        self.file = file
        self.notify = notify
    }
    deinit { close() }

    /// Mounts, and hands the descriptor to systemd.
    package static func mount(
        _ mountpoint: String, options: MountOptions, name: String, notify: @escaping Notify
    ) throws(SheepError) -> DescriptorStore {
        let file = try StateFile()
        var id: UInt64 = 0
        while id == 0 { id = UInt64.random(in: .min ... .max) }
        let contents = StateFile.Contents(mountId: id, mountpoint: mountpoint, values: [:])
        try file.write(contents)
        let descriptor = try LibraryMount.mount(mountpoint, options: options)
        let (mountName, stateName) = names(name)
        // The state goes first: a descriptor without it could not be taken over.
        guard notify("FDSTORE=1\nFDNAME=\(stateName)", [file.descriptor]),
            notify("FDSTORE=1\nFDNAME=\(mountName)\nFDPOLL=0", [descriptor])
        else {
            Glibc.close(descriptor)
            try? MountTable.detach(mountpoint)
            throw SheepError(
                .notSupported, what: "the mount cannot be kept by systemd", why: "it does not take our descriptors",
                remedy: "set FileDescriptorStoreMax=8 in the service, or start sheep without systemd")
        }
        return DescriptorStore(descriptor: descriptor, file: file, contents: contents, notify: notify)
    }

    /// Takes back what systemd hands to this process. `received`: descriptors by name. Nil if there is no such mount.
    package static func resume(
        _ received: [String: Int32], name: String, notify: @escaping Notify
    ) throws(SheepError) -> DescriptorStore? {
        let (mountName, stateName) = names(name)
        guard let descriptor = received[mountName], let state = received[stateName] else { return nil }
        let file = StateFile(descriptor: state)
        let contents = try file.read()
        return DescriptorStore(descriptor: descriptor, file: file, contents: contents, notify: notify)
    }

    package func store(_ key: String, _ bytes: [UInt8]) throws(SheepError) {
        try KeptState.check(stored, adding: key, bytes)
        var values = stored
        values[key] = bytes.isEmpty ? nil : bytes
        try file.write(.init(mountId: mountId, mountpoint: mountpoint, values: values))
        stored = values
    }
    package func unmount() throws(SheepError) { try MountTable.detach(mountpoint) }
    package func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
    }
    /// Tells systemd to forget the mount, after it is gone.
    package func forget(name: String) {
        let (mountName, stateName) = DescriptorStore.names(name)
        _ = notify("FDSTOREREMOVE=1\nFDNAME=\(mountName)", [])
        _ = notify("FDSTOREREMOVE=1\nFDNAME=\(stateName)", [])
    }
}

/// Mounting in this process, through libfuse.
enum LibraryMount {
    /// A descriptor of our own; libfuse's is closed.
    static func mount(_ mountpoint: String, options: MountOptions) throws(SheepError) -> Int32 {
        try MountTable.cleanDead(mountpoint)
        let text = "fsname=\(options.sourceName),subtype=sheep," + (try options.libraryOptions())
        var arguments = fuse_args(argc: 0, argv: nil, allocated: 0)
        for argument in ["sheep", "-o", text] { fuse_opt_add_arg(&arguments, argument) }
        defer { fuse_opt_free_args(&arguments) }
        var operations = fuse_lowlevel_ops()
        guard
            let session = fuse_session_new(&arguments, &operations, MemoryLayout<fuse_lowlevel_ops>.size, nil)
        else {
            throw SheepError(
                .invalid, what: "\(mountpoint) was not mounted", why: "libfuse refuses the options \(text)",
                remedy: "check the options")
        }
        // Destroying the session neither unmounts nor ends the connection, as long as the duplicate lives.
        defer { fuse_session_destroy(session) }
        guard fuse_session_mount(session, mountpoint) == 0 else {
            throw SheepError(
                .inputOutput, what: "\(mountpoint) was not mounted", why: "libfuse could not (its message is above)",
                remedy: "check that it is a directory of yours and that you may open /dev/fuse")
        }
        return fcntl(fuse_session_fd(session), F_DUPFD_CLOEXEC, 3)
    }
}
