// Package endtoend proves the whole: the two programs as they are shipped, as
// processes that are started, asked, killed and told to end, on loopback.
//
// It holds tests only. They guarantee what no room can promise alone: that what a
// probe was told is durable is in the store once, whoever dies when; that nothing
// answers but what is listed; that operators are told what is wrong; and that a
// program that is told to end does so, and loses nothing.
package endtoend
