// What people read: sizes, times, tables, trees, progress, status, errors.
import Model
import Replication
import Testing

@testable import Admin

@Suite struct ByteSizeTests {
    private static let readable: [(String, UInt64)] = [
        ("0", 0), ("4096", 4096), ("10G", 10_737_418_240), ("512m", 536_870_912), ("1T", 1_099_511_627_776),
        ("1.5T", 1_649_267_441_664), ("8 KiB", 8192), ("2gb", 2_147_483_648), ("16P", 18_014_398_509_481_984),
        ("15e", 17_293_822_569_102_704_640), ("0.5k", 512), ("18446744073709551615", UInt64.max),
        ("1.999999E", 2305841856292189345),
    ]
    private static let printed: [(UInt64, String)] = [
        (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.50 KiB"), (10_737_418_240, "10 GiB"),
        (1_310_720, "1.25 MiB"), (322_122_547_200, "300 GiB"), (1_072_693_248, "1023 MiB"),
        (UInt64.max, "15.9 EiB"), (1_090_519_040, "1.01 GiB"), (21_495_808, "20.5 MiB"),
    ]

    @Test(arguments: readable)
    func sizesAreReadInPowersOf1024(_ text: String, _ bytes: UInt64) { #expect(ByteSize.parse(text) == bytes) }

    @Test(arguments: [
        "", "G", "-1", "1.2.3G", "1.G", ".5G", "10X", "16E", "1e3", "18446744073709551616", "1.1234567G", "٣G",
    ])
    func whatIsNoSizeIsRefused(_ text: String) { #expect(ByteSize.parse(text) == nil) }

    @Test(arguments: printed)
    func sizesArePrintedWithThreeDigitsThatMatter(_ bytes: UInt64, _ text: String) {
        #expect(ByteSize.text(bytes) == text)
    }
}

@Suite struct TimeTextTests {
    private static let calendar: [(UInt64, String)] = [
        (0, "1970-01-01T00:00:00Z"), (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"), (1_767_225_600, "2026-01-01T00:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"), (4_107_542_400, "2100-03-01T00:00:00Z"),
    ]

    @Test(arguments: calendar)
    func timesAreThoseOfTheCalendar(_ seconds: UInt64, _ text: String) {
        #expect(TimeText.iso8601(nanoseconds: seconds * 1_000_000_000 + 999_999_999) == text)
    }

    @Test func durationsAreReadAndWritten() {
        #expect(TimeText.parseDuration("90") == 90 && TimeText.parseDuration("10m") == 600)
        #expect(TimeText.parseDuration("2 h") == 7200 && TimeText.parseDuration("1d") == 86_400)
        #expect(TimeText.parseDuration("") == nil && TimeText.parseDuration("m") == nil)
        #expect(TimeText.parseDuration("99999999999999999999d") == nil && TimeText.parseDuration("1w") == nil)
        #expect(TimeText.duration(seconds: 185) == "3 min 5 s" && TimeText.duration(seconds: 7800) == "2 h 10 min")
        #expect(TimeText.short("2026-01-02T03:04:05Z") == "2026-01-02 03:04")
    }
}

@Suite struct DrawingTests {
    private let family = [
        FamilyNode(
            kind: "volume", name: "base.img", size: 1 << 30, created: "2026-01-02T03:04:05Z",
            children: [
                FamilyNode(
                    kind: "snapshot", name: "one", size: 1 << 30, created: "2026-01-02T03:04:05Z",
                    children: [
                        FamilyNode(kind: "volume", name: "x\u{1b}.img", size: 512, created: "", children: []),
                        FamilyNode(kind: "volume", name: "y.img", size: 512, created: "", children: []),
                    ]),
                FamilyNode(
                    kind: "deleted-snapshot", name: "", size: 1, created: "",
                    children: [FamilyNode(kind: "volume", name: "z.img", size: 512, created: "", children: [])]),
            ]),
        FamilyNode(kind: "volume", name: "alone", size: 1024, created: "", children: []),
    ]

    @Test func aTreeHasBranchesAndNoControlCharacters() {
        #expect(
            TreeDrawing.draw(family, isUnicode: true) == """
                base.img  1 GiB
                ├── @one  1 GiB  2026-01-02 03:04
                │   ├── x?.img  512 B
                │   └── y.img  512 B
                └── @(deleted, kept for its clones)
                    └── z.img  512 B
                alone  1 KiB

                """)
    }

    @Test func inAPlainLocaleItIsAscii() {
        let text = TreeDrawing.draw(family, isUnicode: false, exactSizes: true)
        #expect(text.utf8.allSatisfy { $0 < 128 })
        #expect(text.contains("|-- @one  1073741824") && text.contains("    `-- z.img  512"))
    }

    @Test func theLocaleIsTheFirstThatIsSet() {
        func isUnicode(_ variables: [String: String]) -> Bool { TreeDrawing.isUnicodeLocale { variables[$0] } }
        #expect(isUnicode(["LANG": "de_DE.UTF-8"]) && isUnicode(["LC_ALL": "", "LC_CTYPE": "C.utf8", "LANG": "C"]))
        #expect(!isUnicode([:]) && !isUnicode(["LC_ALL": "C", "LANG": "de_DE.UTF-8"]))
    }

    @Test func tablesAlignTheirColumns() {
        var table = Table(">N", "NAME", "WHY")
        table.add("1", "a", "")
        table.add("10", "longer", "x")
        #expect(table.text() == " N  NAME    WHY\n 1  a\n10  longer  x\n")
    }
}

@Suite struct ProgressTests {
    @Test func onATerminalABarIsDrawnOverItself() {
        var bar = ProgressBar(title: "t", isTerminal: true, width: 60)
        let half = bar.update(AdminProgress(done: 50, total: 100, unit: "objects"), milliseconds: 0)
        #expect(half == "\rt [###############...............] 50 % (50 of 100 objects)\u{1b}[K")
        #expect(half.count <= 60 + 4)
        #expect(bar.finish() == "\r\u{1b}[K" && bar.finish() == "")
    }

    @Test func elsewhereAPlainLineComesEveryFiveSeconds() {
        var bar = ProgressBar(title: "t", isTerminal: false)
        let progress = AdminProgress(done: 1 << 20, total: 4 << 20, unit: "bytes", note: "waits\n")
        #expect(bar.update(progress, milliseconds: 0) == "t: 25 % (1 MiB of 4 MiB), waits?\n")
        #expect(bar.update(progress, milliseconds: 4999) == "")
        #expect(bar.update(progress, milliseconds: 5000) != "" && bar.finish() == "")
    }

    @Test func theTimeLeftIsByTheSpeedSoFar() {
        var bar = ProgressBar(title: "t", isTerminal: false)
        _ = bar.update(AdminProgress(done: 0, total: 100, unit: "objects"), milliseconds: 1000)
        let text = bar.update(AdminProgress(done: 25, total: 100, unit: "objects"), milliseconds: 11_000)
        #expect(text == "t: 25 % (25 of 100 objects), 30 s left\n")
    }

    @Test func anUnknownTotalAndATinyTerminalDoNoHarm() {
        var bar = ProgressBar(title: "title", isTerminal: true, width: 8)
        #expect(bar.update(AdminProgress(done: 5, total: 0, unit: "bytes"), milliseconds: 0).contains("title"))
        #expect(bar.update(AdminProgress(done: 9, total: 5, unit: "bytes"), milliseconds: 1).count < 20)
        var narrow = ProgressBar(title: "t", isTerminal: true, width: 0)
        #expect(!narrow.update(AdminProgress(done: 5, total: 9, unit: "bytes"), milliseconds: 0).isEmpty)
    }
}

@Suite struct StatusTextTests {
    @Test func statusSaysWhatIsWrongAtRiskAndNextInOneScreen() throws {
        let talk = Conversation()
        talk.node.problems = ["store b3 (/srv/c) is down: I/O error"]
        talk.node.recoveryNow.phase = .copying
        talk.node.recoveryNow.bytesMoved = 1 << 30
        talk.node.recoveryNow.bytesTotal = 3 << 30
        talk.node.recoveryNow.bytesPerSecond = 1 << 28
        let status = try #require(try talk.ask(.status).status)
        let text = StatusText.status(status, size: ByteSize.text)
        #expect(text.contains("DEGRADED") && text.contains("Wrong:\n  - store b3 (/srv/c) is down: I/O error\n"))
        #expect(text.contains("At risk: nothing") && text.contains("about 8 s left"))
        #expect(text.contains("00000000000000b3 is down since 2026-01-01 00:00: I/O error"))
        #expect(text.split(separator: "\n").count <= 24 && text.split(separator: "\n").allSatisfy { $0.count <= 100 })
    }

    @Test func scrubTellsItsAlarms() {
        var scrub = ScrubReport(
            running: false, deep: true, objectsDone: 5, objectsTotal: 5, blocksRepaired: 2, copiesRepaired: 1,
            alarms: ["object 1 differs"], started: nil, finished: "2026-01-02T03:04:05Z")
        #expect(
            StatusText.scrub(scrub) == """
                deep, finished 2026-01-02 03:04 UTC: 5 objects, repaired 2 blocks and 1 copies
                  alarm: object 1 differs

                """)
        scrub.finished = nil
        #expect(StatusText.scrub(scrub).hasPrefix("never ran"))
    }
}

@Suite struct ErrorTests {
    @Test func eachErrnoHasItsExitCode() {
        let expected: [(Errno, Admin.ExitStatus)] = [
            (.noEntry, .notFound), (.busy, .busy), (.tryAgain, .busy), (.notEmpty, .busy), (.exists, .exists),
            (.noSpace, .noSpace), (.invalid, .usage), (.nameTooLong, .usage), (.accessDenied, .accessDenied),
            (.connectionRefused, .unreachable), (.inputOutput, .failed), (Errno(9999), .failed),
        ]
        for (errno, status) in expected { #expect(Admin.ExitStatus(errno) == status) }
        #expect(Admin.ExitStatus.allCases.map(\.rawValue) == Array(0...9))
    }

    @Test func errorsAreThreeLinesOrOneObject() {
        let error = SheepError(.busy, what: "w\u{1b}", why: "y", remedy: "r")
        #expect(ErrorText.lines("dog", error) == "dog: w?\n  why: y\n  do:  r\n")
        let json = ErrorText.json(error, exitCode: .busy)
        #expect(json.contains("\"exitCode\" : 5") && json.contains("\"errno\" : 16"))
    }
}
