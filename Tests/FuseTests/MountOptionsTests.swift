// Options and mount tables, as text.
import Glibc
import Model
import Testing

@testable import Fuse

@Suite struct MountOptionsTests {
    @Test func oursAreUnderstood() throws {
        let options = try MountOptions(parsing: [
            "snapshots=hidden,cp=clone,durability=always", "on-unavailable=error,ro,subdir=/images//100/",
        ])
        #expect(options.snapshots == .hidden && options.copying == .clone && options.durability == .always)
        #expect(options.onUnavailable == .error && options.isReadOnly && options.subdirectory == ["images", "100"])
        #expect(try MountOptions(parsing: []) == MountOptions())
    }

    @Test func whatMountAndFstabAddIsDropped() throws {
        let options = try MountOptions(parsing: [
            "rw,auto,noauto,user,users,nofail,_netdev,x-systemd.automount,comment=x,defaults,,dev,suid,noatime"
        ])
        #expect(options.passed == ["dev", "suid", "noatime"] && !options.isReadOnly)
        #expect(
            try options.libraryOptions(isRoot: true, configuration: nil)
                == "default_permissions,rw,allow_other,dev,suid,noatime")
        #expect(try options.libraryOptions(isRoot: false, configuration: nil) == "default_permissions,rw,noatime")
    }

    @Test func otherUsersAreAllowedWhereTheMachineSays() throws {
        let options = try MountOptions(parsing: ["ro"])
        let permitting = "# comment\n  user_allow_other \n"
        #expect(
            try options.libraryOptions(isRoot: false, configuration: permitting) == "default_permissions,ro,allow_other"
        )
        #expect(
            try options.libraryOptions(isRoot: false, configuration: "#user_allow_other") == "default_permissions,ro")
        let asked = try MountOptions(parsing: ["allow_other"])
        #expect(throws: SheepError.self) { try asked.libraryOptions(isRoot: false, configuration: nil) }
    }

    @Test(arguments: [
        "bogus", "cp=maybe", "cp", "snapshots=", "subdir=../x", "remount", "auto_unmount", "ro=1", "max_read=4096",
    ])
    func whatNobodyKnowsIsRefused(_ option: String) {
        let error = #expect(throws: SheepError.self) { try MountOptions(parsing: ["ro,\(option)"]) }
        #expect(error?.what.contains(option) == true && error?.errno == .invalid)
    }

    @Test func mountTablesAreReadWithTheirEscapes() {
        let text = """
            25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
            90 25 0:45 / /mnt/a\\040b\\134c rw,nosuid - fuse.sheep my\\040name rw,user_id=0
            garbage
            91 25 0:46 / /x rw - fuse
            """
        let entries = MountTable.parse(text)
        #expect(entries.map(\.mountpoint) == ["/sys", "/mnt/a b\\c"])
        #expect(entries.map(\.isOurs) == [false, true] && entries[1].source == "my name")
    }
}

@Suite struct StateFileTests {
    @Test func stateSurvivesAndIsReplacedWhole() throws {
        let file = try StateFile()
        #expect(throws: SheepError.self) { try file.read() }
        var contents = StateFile.Contents(mountId: 5, mountpoint: "/mnt", values: [:])
        for round in 0..<5 {
            contents = .init(
                mountId: 5, mountpoint: "/mnt",
                values: ["a": [1, 2, 3], "round": [UInt8](repeating: UInt8(round), count: round * 100_000)])
            try file.write(contents)
            #expect(try file.read() == contents)
        }
    }

    @Test func descriptorsThatComeBackMakeTheMountAgain() throws {
        let file = try StateFile()
        try file.write(.init(mountId: 9, mountpoint: "/mnt", values: ["init": [1]]))
        let names = DescriptorStore.names("main")
        let keeper = try DescriptorStore.resume(
            [names.mount: dup(0), names.state: dup(file.descriptor)], name: "main", notify: { _, _ in true })
        #expect(keeper?.mountId == 9 && keeper?.mountpoint == "/mnt" && keeper?.stored == ["init": [1]])
        try keeper?.store("locks", [4])
        #expect(try file.read().values == ["init": [1], "locks": [4]])
        #expect(try DescriptorStore.resume([:], name: "main", notify: { _, _ in true }) == nil)
        let big = [UInt8](repeating: 0, count: 1 << 20)
        #expect(throws: SheepError.self) { try keeper?.store("big", big) }
    }
}
