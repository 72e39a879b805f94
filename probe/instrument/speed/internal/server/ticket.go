package server

import "context"

type ticketKey struct{}

// WithTicket has a test carry a token to its server.
func WithTicket(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, ticketKey{}, token)
}

// Ticket is the token that a test carries; empty: none.
func Ticket(ctx context.Context) string {
	token, _ := ctx.Value(ticketKey{}).(string)
	return token
}
