// Package crash has no code: its test kills a real process, engine, router and
// outbox together, at instants around the telling of incidents, and looks for what
// is lost or repeated.
package crash
