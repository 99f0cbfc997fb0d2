// Package trust is who this host believes, and how it shows who it is: the
// cluster's authority, this host's certificate, and the tokens that new hosts
// join with.
//
// The first host makes an [Authority], whose certificate every host keeps and
// whose key is on the hosts that hold the store. A token ([Token]) tells a new
// host where to ask and the hash of the authority's key, so that it believes
// nobody else ([Pinned]); it sends a certificate request ([NewRequest]) and gets
// a certificate signed. From then on all of the store's connections are mutual
// TLS (RFC 8446) with what [Dir] holds, which is read again when its files
// change: certificates are short-lived and renewed while they are in use.
package trust
