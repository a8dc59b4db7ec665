// What may be said to `sheep run`, to a mount, and by mount(8).
import Glibc
import Logging
import Model
import Testing

@testable import Admin

private func words(_ change: (inout ServeOptions.Words) -> Void) -> ServeOptions.Words {
    var words = ServeOptions.Words()
    words.stores = ["/srv/none/a", "/srv/none/b", "/srv/none/c"]
    words.mount = "/mnt/sheep"
    words.socket = "/run/none/sheep.sock"
    change(&words)
    return words
}

/// Why the words are refused; nil when they are not.
private func refusal(_ change: (inout ServeOptions.Words) -> Void) -> String? {
    do throws(SheepError) {
        _ = try ServeOptions(words(change))
        return nil
    } catch {
        #expect(error.errno == .invalid && Admin.ExitStatus(error.errno) == .usage && !error.remedy.isEmpty)
        return error.why
    }
}

@Suite struct ServeOptionsTests {
    @Test func thePlainCaseIsTakenAsItIs() throws {
        let options = try ServeOptions(words { $0.copies = 3 })
        #expect(options.stores == ["/srv/none/a", "/srv/none/b", "/srv/none/c"] && options.mountpoint == "/mnt/sheep")
        #expect(options.copies == 3 && options.minCopies == nil && options.durability == .flush)
        #expect(options.stateDirectory == "/run/none" && options.logLevel == .info && options.testFaults == nil)
    }

    @Test func storesMustBeGivenOnceEachAndApart() throws {
        #expect(refusal { $0.stores = [] } == "no store was given")
        #expect(refusal { $0.stores.append("/srv/none/./x/../a/") }?.contains("twice") == true)
        #expect(refusal { $0.stores.append("/srv/none/a/inner") }?.contains("lie in each other") == true)
        #expect(refusal { $0.stores.append("/srv/none/a2") } == nil)
        #expect(refusal { $0.stores = ["/"] } != nil)
    }

    @Test func theSameStoreThroughASymbolicLinkIsFound() throws {
        let directory = "/tmp/admin-options-\(getpid())"
        try #require(mkdir(directory, 0o700) == 0 && mkdir(directory + "/real", 0o700) == 0)
        defer {
            unlink(directory + "/link")
            rmdir(directory + "/real")
            rmdir(directory)
        }
        try #require(symlink("real", directory + "/link") == 0)
        #expect(refusal { $0.stores = [directory + "/real", directory + "/link"] }?.contains("twice") == true)
        #expect(
            refusal {
                $0.stores = [directory + "/real"]; $0.mount = directory + "/link/m"
            }?.contains("inside") == true)
        let options = try ServeOptions(words { $0.stores = [directory + "/link"] })
        #expect(options.stores == [directory + "/real"])
    }

    @Test func theMountpointAndTheStoresMayNotContainEachOther() {
        #expect(refusal { $0.mount = "/srv/none/a/mnt" }?.contains("inside the store") == true)
        #expect(refusal { $0.mount = "/srv/none/a" }?.contains("inside the store") == true)
        #expect(refusal { $0.mount = "/srv/none" }?.contains("below the mountpoint") == true)
        #expect(refusal { $0.mount = nil }?.contains("--no-mount") == true)
        #expect(refusal { $0.noMount = true }?.contains("exclude") == true)
        #expect(
            refusal {
                $0.mount = nil; $0.noMount = true
            } == nil)
    }

    @Test func copiesAreOneToSevenAndMinCopiesNoMore() {
        #expect(refusal { $0.copies = 0 } != nil)
        #expect(refusal { $0.copies = 8 } != nil)
        #expect(
            refusal {
                $0.copies = 2; $0.minCopies = 3
            }?.contains("more than") == true)
        #expect(refusal { $0.minCopies = -1 } != nil)
        #expect(refusal { $0.minCopies = 8 } != nil)
        #expect(
            refusal {
                $0.copies = 7; $0.minCopies = 7
            } == nil)
    }

    @Test func everythingElseIsCheckedToo() throws {
        #expect(refusal { $0.durability = "never" } != nil)
        #expect(refusal { $0.logLevel = "loud" } != nil)
        #expect(refusal { $0.options = ["fly=high"] } != nil)
        #expect(refusal { $0.acceptMissing = ["12"] } != nil)
        #expect(refusal { $0.acceptMissing = ["0000000000000000"] } != nil)
        #expect(refusal { $0.zoneOf = ["/srv/none/a"] } != nil)
        #expect(refusal { $0.zoneOf = ["/srv/other=1"] } != nil)
        #expect(refusal { $0.socket = "/" + String(repeating: "s", count: 107) } != nil)
        let options = try ServeOptions(
            words {
                $0.acceptMissing = ["00000000000000af"]
                $0.zoneOf = ["/srv/none/a=1", "/srv/none/b/=1"]
                $0.options = ["cp=clone,noatime", "ro"]
            })
        #expect(options.acceptMissing == [StoreId(0xaf)])
        #expect(options.zones == ["/srv/none/a": 1, "/srv/none/b": 1])
        #expect(options.mountOptions.text == "ro,cp=clone,noatime")
    }
}

@Suite struct MountOptionsTests {
    @Test func oursBecomeValuesAndTheRestIsPassedOnOrDropped() throws {
        let options = try MountOptions(
            "rw,noauto,users,_netdev,x-systemd.automount,nofail,comment=hi,dev,suid,allow_other,snapshots=hidden",
            "cp=clone,durability=always,on-unavailable=error,subdir=/images/100/")
        #expect(!options.showsSnapshots && options.copying == .clone && options.durability == .always)
        #expect(options.onUnavailable == .error && options.subdirectory == ["images", "100"] && !options.isReadOnly)
        #expect(options.passed == ["dev", "suid"] && options.allowOther == true)
        #expect(try MountOptions(options.text) == options)
    }

    @Test func theLastWordCounts() throws {
        #expect(try MountOptions("ro,rw,cp=clone,cp=copy").text == "rw")
        #expect(try MountOptions("rw", "ro").isReadOnly)
        #expect(try MountOptions("").text == "rw")
    }

    @Test(arguments: [
        "remount", "fly", "snapshots=maybe", "snapshots", "cp=", "subdir=a/../b", "durability",
    ])
    func whatMakesNoSenseIsRefusedByName(_ text: String) {
        #expect(throws: SheepError.self) { try MountOptions(text) }
    }
}

@Suite struct MountCallTests {
    private func recognize(_ program: String, _ arguments: String...) throws -> MountCall? {
        try MountCall.recognize(programName: program, arguments: arguments, commands: ["run", "mount"])
    }

    @Test func theHelperIsKnownByItsName() throws {
        let call = try #require(
            try recognize("/sbin/mount.fuse.sheep", "none", "/mnt/s", "-sv", "-n", "-t", "fuse.sheep", "-o", "ro,dev"))
        #expect(call.source == "none" && call.mountpoint == "/mnt/s" && call.options.isReadOnly && !call.isDry)
        #expect(try recognize("mount.fuse.sheep", "none", "/m", "-f")?.isDry == true)
    }

    @Test func sheepWithASourceAndAMountpointIsAMount() throws {
        #expect(try recognize("/usr/bin/sheep", "none", "/mnt/s", "-o", "rw,dev,suid")?.mountpoint == "/mnt/s")
        #expect(try recognize("sheep", "none", "/mnt/s", "-orw")?.options.text == "rw")
        #expect(try recognize("sheep", "mount", "/mnt/s") == nil)
        #expect(try recognize("sheep", "run", "--store", "/a") == nil)
        #expect(try recognize("sheep", "rum", "--store", "/a") == nil)
        #expect(try recognize("sheep", "--help") == nil)
        #expect(try recognize("sheep") == nil)
    }

    @Test func wrongWordsAreRefused() {
        #expect(throws: SheepError.self) { try recognize("mount.fuse.sheep", "none") }
        #expect(throws: SheepError.self) { try recognize("mount.fuse.sheep", "none", "/m", "-o") }
        #expect(throws: SheepError.self) { try recognize("mount.fuse.sheep", "none", "/m", "-x") }
        #expect(throws: SheepError.self) { try recognize("sheep", "none", "/m", "-o", "rw,remount") }
    }
}

@Suite struct SnapshotWordsTests {
    @Test func theTagIsFoundWhereItIsSaid() throws {
        func split(_ names: [String], _ tag: String?) -> String? {
            SnapshotWords.split(names, tag: tag).map { "\($0.paths.joined(separator: "+")) \($0.tag)" }
        }
        #expect(split(["d/vol.img", "monday"], nil) == "d/vol.img monday")
        #expect(split(["d/vol@monday.img"], nil) == "d/vol.img monday")
        #expect(split(["disk@monday"], nil) == "disk monday")
        #expect(split(["a", "b"], "t") == "a+b t")
        #expect(split(["a"], "t") == "a t")
        #expect(split(["a"], nil) == nil)
        #expect(split(["a", "b", "c"], nil) == nil)
        #expect(split(["a.b@tag"], nil) == nil)
    }
}

@Suite struct PathTests {
    @Test func theSocketIsFoundInItsOrder() {
        let none: (String) -> String? = { _ in nil }
        #expect(RuntimePaths.socket(option: "/a/b", uid: 5, environment: none) == "/a/b")
        #expect(RuntimePaths.socket(option: nil, uid: 0, environment: none) == "/run/sheep/sheep.sock")
        #expect(RuntimePaths.socket(option: nil, uid: 5, environment: none) == "/tmp/sheep-5/sheep.sock")
        #expect(
            RuntimePaths.socket(option: nil, uid: 5, environment: { $0 == "XDG_RUNTIME_DIR" ? "/run/user/5" : nil })
                == "/run/user/5/sheep/sheep.sock")
        #expect(
            RuntimePaths.socket(option: nil, uid: 0, environment: { $0 == "SHEEP_SOCKET" ? "/x" : nil }) == "/x")
    }

    @Test func pathsBecomeAbsoluteByTheirLetters() {
        #expect(RuntimePaths.absolute("a/./b//../c/", workingDirectory: "/w") == "/w/a/c")
        #expect(RuntimePaths.absolute("/../..", workingDirectory: "/w") == "/")
        #expect(RuntimePaths.isSame("/a/b", orBelow: "/a") && !RuntimePaths.isSame("/ab", orBelow: "/a"))
    }
}

@Suite struct LogTests {
    @Test func underTheJournalEachLineHasItsPriority() {
        let log = StandardErrorLog(label: "sheep", level: .info, isJournal: true)
        #expect(log.format(.warning, "a\nb", ["k": "v"], wallClock: 0) == "<4>sheep: a\n<4>sheep: b k=v\n")
        #expect(StandardErrorLog.priority(.error) == 3 && StandardErrorLog.priority(.debug) == 7)
    }

    @Test func elsewhereLinesHaveTimeAndLevel() {
        let log = StandardErrorLog(label: "sheep", level: .info, isJournal: false)
        #expect(
            log.format(.info, "up", ["b": "2", "a": "1"], wallClock: 1_000_000_000)
                == "1970-01-01T00:00:01Z info sheep: up a=1 b=2\n")
    }
}
