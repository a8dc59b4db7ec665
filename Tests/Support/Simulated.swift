// Virtual time, disks, network and group of tests are those of the simulator.
@_exported import Simulator
