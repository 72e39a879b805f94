package series

import (
	"slices"

	"github.com/prometheus/common/model"
)

// recorded lists what the built-in rules record: series of series, for rules,
// dashboards and mails alike.
func recorded() []Definition {
	const (
		gauge = model.MetricTypeGauge
		bits  = "bits_per_second"
	)
	district := []string{"province", "regency", "district"}
	village := append(slices.Clone(district), "village")
	site := append(slices.Clone(village), "site")

	out := []Definition{
		define(prefix+"link_utilisation_ratio", gauge, "ratio", "The village's own traffic over the last 5 minutes, as a share of the measured speed of its line, by direction (download, upload).", site, []string{"direction"}),
		define("site:pantau_latency_seconds:median15m", gauge, "seconds", "Median of the last 15 minutes' median round trips, to the nearest target; at least 5 minutes measured.", site),
		define("site:pantau_packet_loss_ratio:mean15m", gauge, "ratio", "Mean loss of the last 15 minutes, to the target that lost least; at least 5 minutes measured.", site),
	}
	for _, d := range []string{"download", "upload"} {
		speed := "site:pantau_" + d + "_bits_per_second:"
		out = append(out,
			define(speed+"tests2d", gauge, "", "Speed tests of the last two days in this direction: the n of the median.", site),
			define(speed+"median2d", gauge, bits, "Median of the tests of the last two days against the measurement server that gave most.", site),
			define(speed+"latest", gauge, bits, "Latest test of the last two days, against the measurement server that gave most.", site),
			define(speed+"measured", gauge, bits, "What the line carries: the median of the last day's tests, else the latest one within a week.", site),
		)
	}
	for _, level := range []struct {
		name string
		by   []string
	}{{"village", village}, {"district", district}} {
		usage := level.name + ":pantau_link_receive_bits_per_second:"
		out = append(out,
			define(usage+"rate5m", gauge, bits, "Own traffic towards the "+level.name+" over the last 5 minutes.", level.by),
			define(usage+"weeks_ago", gauge, bits, "Median of rate5m around the same time of week (10 minutes either side), so many weeks ago.", level.by, []string{"weeks"}),
			define(usage+"usual", gauge, bits, "What is usual at this time of week: median over the 6 weeks before; absent with fewer than 3.", level.by),
			define(usage+"log_ratio", gauge, "", "Natural logarithm of rate5m over usual, both at least 1 Mbit/s.", level.by),
			define(usage+"surprise", gauge, "", "log_ratio less its own median over the two hours before the last 15 minutes.", level.by),
			define(usage+"surprise_spread", gauge, "", "What surprise amounts to at this time of day on ordinary days: 1.4826 times its median size over 14 days, at least 0.04; absent with fewer than 5 days.", level.by),
			define(usage+"surge", gauge, "", "1 if usage is far above its usual in this sample, else 0; absent where the history is too short to say.", level.by),
		)
	}
	out = append(out, define("district:pantau_link_receive_bits_per_second:villages", gauge, "", "Villages whose traffic the district's sum is made of.", district))
	return out
}

// Names of Prometheus' own for what rules find.
const (
	// Alerts is 1 for each alert that is pending or firing.
	Alerts = "ALERTS"
	// AlertsForState is since when, Unix time.
	AlertsForState = "ALERTS_FOR_STATE"
)

// own lists what the collector keeps of its own metrics, those of /metrics: for
// rules about itself and its dashboard. It is the list that
// collector/selfmetrics writes into the store.
func own() []Definition {
	const (
		gauge     = model.MetricTypeGauge
		counter   = model.MetricTypeCounter
		histogram = model.MetricTypeHistogram
	)
	probe := []string{"province", "regency", "district", "village", "site", "probe"}
	return []Definition{
		define(ProbeAiling, gauge, "", "1 while a probe says in its heartbeats that something ails it: spool, clock, permission, interface or instrument.", probe, []string{"ailment"}),

		define("pantau_collector_incident_events_total", counter, "", "Events of incidents since the start, by type.", []string{"type"}),
		define("pantau_collector_incidents_open", gauge, "", "Incidents that go on, by kind.", []string{"kind"}),
		define("pantau_collector_inventory_loaded_timestamp_seconds", gauge, "seconds", "When the inventory in force was loaded."),
		define("pantau_collector_inventory_reload_failed", gauge, "", "1 if the latest reload of the inventory failed and the one before is in force, else 0."),
		define("pantau_collector_sites", gauge, "", "Sites of the inventory by state now.", []string{"state"}),
		define("pantau_collector_stalls_total", counter, "", "Times that the collector itself did not run for seconds; silence is not counted over them."),
		define("pantau_collector_uplink_works", gauge, "", "1 if the collector's own way to the world works, 0 if not, NaN if it is not known."),
		define("pantau_index_commit_seconds", histogram, "seconds", "Time of one transaction of the batch index, failed ones included."),
		define("pantau_index_errors_total", counter, "", "Rounds in which the batch index could not follow the journal."),
		define("pantau_index_pending_entries", gauge, "", "Entries of the batch index that are not yet in its file."),
		define("pantau_ingest_batches_total", counter, "", "Batches made durable and acknowledged, without those that were there already."),
		define("pantau_ingest_beat_answers_unsent_total", counter, "", "Answers to heartbeats that the kernel did not take."),
		define("pantau_ingest_beats_ignored_total", counter, "", "Datagrams dropped without an answer, by why.", []string{"reason"}),
		define("pantau_ingest_beats_total", counter, "", "Heartbeats with a right MAC: fresh, repeated (the last one again), or late (it waited in our queue).", []string{"sort"}),
		define("pantau_ingest_config_errors_total", counter, "", "Times that a probe's configuration could not be made."),
		define("pantau_ingest_datagrams_lost_total", counter, "", "Datagrams that the kernel dropped because we did not read them in time."),
		define("pantau_ingest_duplicates_total", counter, "", "Batches acknowledged that were there already: an answer was lost."),
		define("pantau_ingest_refused_total", counter, "", "Requests that were not answered with 200, by why.", []string{"reason"}),
		define("pantau_ingest_request_seconds", histogram, "seconds", "Time from a request's header to its answer, by path.", []string{"path"}),
		define("pantau_ingest_results_total", counter, "", "Results in the batches made durable."),
		define("pantau_ingest_undated_batches_total", counter, "", "Batches made durable whose probe did not say readably when it sent them."),
		define("pantau_journal_appended_records_total", counter, "", "Records made durable, by type.", []string{"type"}),
		define("pantau_journal_bytes_total", counter, "bytes", "Bytes of records made durable, frames included."),
		define("pantau_journal_commit_seconds", histogram, "seconds", "Time of one group's write and fdatasync, failed ones included."),
		define("pantau_journal_damaged_bytes", gauge, "bytes", "Bytes found unreadable since the start; they are kept on disk."),
		define("pantau_journal_errors_total", counter, "", "Failed writes, fdatasyncs and creations of a segment."),
		define("pantau_journal_free_bytes", gauge, "bytes", "Bytes that the journal's file system has left for this process; NaN if it does not say."),
		define("pantau_mail_dead_total", counter, "", "Mails given up because they waited too long."),
		define("pantau_mail_delayed_total", counter, "", "Attempts that did not succeed and will be repeated, by why.", []string{"reason"}),
		define("pantau_mail_full_total", counter, "", "Mails not accepted because too many waited."),
		define("pantau_mail_oldest_waiting_seconds", gauge, "seconds", "Age of the oldest mail that waits; 0 if none does."),
		define("pantau_mail_refused_total", counter, "", "Mails that the server refused for good, by why.", []string{"reason"}),
		define("pantau_mail_sent_total", counter, "", "Mails that the server has taken."),
		define("pantau_mail_waiting", gauge, "", "Mails accepted and not yet sent, refused or dead."),
		define("pantau_registry_certificate_expiry_timestamp_seconds", gauge, "seconds", "When the certificate that probes pin (ca) and the one that is served (leaf) end, Unix time.", []string{"certificate"}),
		define("pantau_registry_probes", gauge, "", "Probes by whether they may speak: enrolled, revoked, or claimed (a code was made and not used yet).", []string{"state"}),
		define("pantau_rules_files_refused", gauge, "", "Files of the rule directory that are refused now; the last good set stays in force."),
		define("pantau_rules_waiting", gauge, "", "1 while rules about villages are not evaluated, because the store is catching up or the collector was away; else 0."),
		define("pantau_sink_corrected_results_total", counter, "", "Results whose event time was corrected because the probe's wall clock was off.", []string{"sink"}),
		define("pantau_sink_errors_total", counter, "", "Failed writes, each of which is repeated until it succeeds.", []string{"sink"}),
		define("pantau_sink_held_results_total", counter, "", "Results that were kept from the sink and are in the journal only, by reason.", []string{"sink", "reason"}),
		define("pantau_sink_lag_seconds", gauge, "seconds", "Age of the oldest journal record that the sink is at and has not stored; 0 if there is none.", []string{"sink"}),
		define("pantau_sink_records_total", counter, "", "Journal records that the sink has passed, by type.", []string{"sink", "type"}),
		define("pantau_sink_refused_samples_total", counter, "", "Samples that the store did not take, by reason.", []string{"sink", "reason"}),
		define("pantau_sink_samples_total", counter, "", "Samples that the sink stored, those that it had already included.", []string{"sink"}),
		define("pantau_sink_unreadable_records_total", counter, "", "Journal records that were passed over because they cannot be decoded, by type.", []string{"sink", "type"}),

		define("go_goroutines", gauge, "", "Number of goroutines that currently exist."),
		define("go_memstats_heap_inuse_bytes", gauge, "bytes", "Number of heap bytes that are in use."),
		define("process_cpu_seconds_total", counter, "seconds", "Total user and system CPU time spent in seconds."),
		define("process_open_fds", gauge, "", "Number of open file descriptors."),
		define("process_resident_memory_bytes", gauge, "bytes", "Resident memory size in bytes."),
		define("process_start_time_seconds", gauge, "seconds", "Start time of the process since unix epoch in seconds."),
		define("prometheus_rule_evaluation_failures_total", counter, "", "The total number of rule evaluation failures.", []string{"rule_group"}),
		define("prometheus_rule_group_last_duration_seconds", gauge, "seconds", "The duration of the last rule group evaluation.", []string{"rule_group"}),
		define("prometheus_tsdb_compactions_failed_total", counter, "", "Total number of compactions that failed for the partition."),
		define("prometheus_tsdb_head_series", gauge, "", "Total number of series in the head block."),
		define("prometheus_tsdb_storage_blocks_bytes", gauge, "bytes", "The number of bytes that are currently used for local storage by all blocks."),
		define("prometheus_tsdb_wal_corruptions_total", counter, "", "Total number of WAL corruptions."),
	}
}
