// Names and tags, and snapshot file names made of them and taken apart again.
import Model
import Testing

@testable import Catalog

struct NamesTests {
    @Test(arguments: [
        ("vol.img", "t", "vol@t.img"), ("disk", "t", "disk@t"), (".hidden", "t", ".hidden@t"),
        ("a.b.img", "x:1", "a.b@x:1.img"), ("a.", "t", "a@t."), ("..x", "t", ".@t.x"),
    ])
    func snapshotNamesComeApartAgain(_ name: String, _ tag: String, _ file: String) throws {
        #expect(Names.compose(volume: name, tag: tag) == file)
        let parsed = try #require(Names.parse(file))
        #expect(parsed.volume == name && parsed.tag == tag)
    }

    @Test(arguments: ["vol.img", "@t.img", "a@b@c", "a@t.b.c", "a@.img", "a@t t.img", "a@", "@t", ".snap@t"])
    func otherNamesAreNoSnapshots(_ file: String) { #expect(Names.parse(file) == nil) }

    @Test func namesAreCheckedAsBytes() {
        for bad in ["", ".", "..", ".snap", ".sheep", ".lineage", "a/b", "a@b", "a\0b", "a@\u{301}b", "a/\u{301}"] {
            #expect(Names.problem(withVolumeName: bad)?.errno == .invalid, "\(bad)")
            #expect(Names.problem(withDirectoryName: bad)?.errno == .invalid, "\(bad)")
        }
        for good in ["a", ".a", "vm-1.raw", "K\u{fc}he", "a b", String(repeating: "x", count: 190)] {
            #expect(Names.problem(withVolumeName: good) == nil, "\(good)")
        }
        #expect(Names.problem(withVolumeName: String(repeating: "x", count: 191))?.errno == .nameTooLong)
        #expect(Names.problem(withDirectoryName: String(repeating: "x", count: 255)) == nil)
        #expect(Names.problem(withDirectoryName: String(repeating: "x", count: 256))?.errno == .nameTooLong)
    }

    @Test func theLongestSnapshotNameFits() {
        let file = Names.compose(
            volume: String(repeating: "x", count: 186) + ".img", tag: String(repeating: "t", count: 64))
        #expect(file.utf8.count == 255)
        #expect(Names.parse(file) != nil)
    }

    @Test func tagsAreLettersDigitsAndThreeSigns() {
        for good in ["a", "A-z_0:9", String(repeating: "t", count: 64)] { #expect(Names.problem(withTag: good) == nil) }
        for bad in ["", "a b", "a.b", "a@b", "#7", "\u{e4}", String(repeating: "t", count: 65)] {
            #expect(Names.problem(withTag: bad)?.errno == .invalid, "\(bad)")
        }
    }
}
