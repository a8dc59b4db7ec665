// The history says no to what the contract forbids, and yes to all else.
import Simulator
import Testing

@Suite struct HistoryTests {
    private let history = VolumeHistory()
    private func write(_ lineage: Lineage, _ sectors: Range<Int> = 0..<1) -> SectorValue {
        let (id, begun) = history.writeBegan(lineage.current, sectors)
        history.ended(lineage.current, sectors, begun: begun, durable: false)
        return id
    }
    private func read(_ lineage: Lineage, _ value: SectorValue) {
        let begun = history.now()
        history.read(lineage.current, 0, value, begun: begun, ended: history.now())
    }
    private func flush(_ lineage: Lineage) {
        let begun = history.now()
        history.flushed(lineage, begun: begun)
    }

    @Test func whatWasWrittenLastIsRead() {
        let volume = history.newVolume()
        read(volume, 0)
        let first = write(volume)
        read(volume, first)
        let second = write(volume)
        read(volume, second)
        #expect(history.violation == nil)
        read(volume, first)
        #expect(history.violation?.checker == "linearizability")
    }
    @Test func anAcknowledgedWriteIsNotForgotten() {
        let volume = history.newVolume()
        _ = write(volume)
        read(volume, 0)
        #expect(history.violation != nil)
    }
    @Test func aWriteOnItsWayIsThereOrNotAndThenStays() {
        let volume = history.newVolume()
        let first = write(volume)
        let (second, _) = history.writeBegan(volume.current, 0..<1)
        read(volume, first)
        read(volume, second)
        #expect(history.violation == nil)
        read(volume, first)
        #expect(history.violation != nil)
    }
    @Test func flushedDataSurvivesAPowerLoss() {
        let volume = history.newVolume()
        let first = write(volume)
        flush(volume)
        let second = write(volume)
        history.powerWasLost()
        read(volume, first)
        #expect(history.violation == nil)
        // Decided once.
        read(volume, second)
        #expect(history.violation != nil)
    }
    @Test func whatWasOverwrittenBeforeAFlushDoesNotComeBack() {
        let volume = history.newVolume()
        let first = write(volume)
        _ = write(volume)
        flush(volume)
        history.powerWasLost()
        read(volume, first)
        #expect(history.violation != nil)
    }
    @Test func aSnapshotHasWhatWasAcknowledgedAndNothingLater() {
        let volume = history.newVolume()
        let first = write(volume)
        let shot = history.snapshot(volume, begun: history.now(), powerLosses: 0, sectors: 8)
        let second = write(volume)
        history.read(shot, 0, first)
        read(volume, second)
        #expect(history.violation == nil)
        history.read(shot, 0, second)
        #expect(history.violation?.checker == "snapshot content")
    }
    @Test func aSnapshotMayNotMissAnAcknowledgedWrite() {
        let volume = history.newVolume()
        _ = write(volume)
        let shot = history.snapshot(volume, begun: history.now(), powerLosses: 0, sectors: 8)
        history.read(shot, 0, 0)
        #expect(history.violation != nil)
    }
    @Test func aCloneShowsItsSnapshotUntilItIsWritten() {
        let volume = history.newVolume()
        let first = write(volume)
        let shot = history.snapshot(volume, begun: history.now(), powerLosses: 0, sectors: 8)
        let clone = history.newClone(of: shot)
        read(clone, first)
        let second = write(clone)
        read(clone, second)
        #expect(history.violation == nil)
        read(clone, 0)
        #expect(history.violation != nil)
    }
    @Test func whatWasCutOffIsZeros() {
        let volume = history.newVolume()
        let first = write(volume)
        let begun = history.shrinkBegan(volume.current, from: 0)
        history.shrunk(volume.current, from: 0, begun: begun)
        read(volume, 0)
        #expect(history.violation == nil)
        read(volume, first)
        #expect(history.violation != nil)
    }
}
