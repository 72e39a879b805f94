// Package soak proves what a probe costs the village that it stands in: memory,
// processor and bytes, over a day's schedule in less time, while it is killed again
// and again.
//
// It holds tests only: the programs, each in its network namespace, the box behind a
// router and a line at the published averages of Klaten's villages. The judge of the
// bytes is the router's interface towards the line, the judge of what was kept is the
// collector's journal. The programs are as they are shipped, but for one constant of
// the probe, the zone in which months begin: a month ends during the soak, because a
// budget shows what it is worth where it ends.
//
// What is compressed, and how far, when a day takes an hour (factor 24):
//
//	light instruments       60 s -> 10 s     6x: a burst takes up to six seconds
//	heartbeat               30 s -> 5 s      6x: the least that a collector allows
//	seal                    5 min -> 12.5 s  24x
//	seal on a transition    60 s -> 2.5 s    24x
//	rare (dns, http, path)  1 h -> 2.5 min   24x
//	speed tests, mean       6 h -> 45 s      480x: so that a third of the kills can fall into one,
//	                                         and the budget is what limits them
//	a speed test            as long as it takes
//	the month's budget      its even share of 48 min, after which the next month begins
//	kills                   50
//
// PANTAU_SOAK_DAY says how long the day takes, from "1m" on; without it none is
// lived. In a short one chance decides what is seen of tests.
package soak
