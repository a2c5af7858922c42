//! Every path does the same, between all families of addresses.

use super::*;

/// Paths that must give the same answers.
fn paths() -> Vec<(Epoll, Box<dyn MediaPath>)> {
    let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let path = EpollPath::new(&control).unwrap();
    let mut paths: Vec<(Epoll, Box<dyn MediaPath>)> = vec![(control, Box::new(path))];
    // Not every machine lets us, or has all means.
    let best = UringPath::try_out().ok();
    for means in best.into_iter().flat_map(|best| [best, Means::FEWEST]) {
        let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let path = UringPath::new(&control, means).unwrap();
        paths.push((control, Box::new(path)));
    }
    paths
}

/// Where packets come in and where they go out: IPv4 to IPv4, 4 to 6, 6 to 4, 6 to 6.
const PAIRS: [[&str; 2]; 4] = [[FOUR, FOUR], [FOUR, SIX], [SIX, FOUR], [SIX, SIX]];
const FOUR: &str = "127.0.0.1:0";
const SIX: &str = "[::1]:0";

/// Every path, for every pair of families.
fn each(mut story: impl FnMut(Box<dyn MediaPath>, [&str; 2])) {
    for pair in PAIRS {
        for (_control, path) in paths() {
            story(path, pair);
        }
    }
}

fn peer(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn a_packet_leaves_by_the_socket_and_to_the_address_that_was_decided() {
    each(|mut path, [inside, outside]| {
        let (alice, bob) = (peer(inside), peer(outside));
        let (in_port, in_addr) = path.bind(inside.parse().unwrap()).unwrap();
        let (out_port, out_addr) = path.bind(outside.parse().unwrap()).unwrap();
        for word in ["one", "two", "three"] {
            alice.send_to(word.as_bytes(), in_addr).unwrap();
        }
        let to = bob.local_addr().unwrap();
        let mut sent = 0;
        while sent < 2 {
            let turn = path.turn(Wait::at_most(Duration::from_secs(5)), &mut |_, socket, from, slot, len| {
                assert_eq!((socket, from), (in_port, alice.local_addr().unwrap()));
                match &slot[..len] {
                    b"two" => Forward::Drop(relay::Why::Stranger),
                    _ => Forward::Send { socket: out_port, to, len },
                }
            });
            sent += turn.unwrap().sent;
        }
        let mut buffer = [0; 16];
        for word in ["one", "three"] {
            let (length, from) = bob.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (word.as_bytes(), out_addr));
        }
    });
}

/// A burst as video has them: datagrams of one size to one party, the last one shorter, and another party's in between.
#[test]
fn a_burst_arrives_whole_in_order_and_cut_as_it_was() {
    each(|mut path, [inside, outside]| {
        let (alice, bob, carol) = (peer(inside), peer(outside), peer(outside));
        let (in_port, in_addr) = path.bind(inside.parse().unwrap()).unwrap();
        let (out_port, out_addr) = path.bind(outside.parse().unwrap()).unwrap();
        let [to_bob, to_carol] = [&bob, &carol].map(|party| party.local_addr().unwrap());
        let burst: Vec<Vec<u8>> = (0..100u8)
            .map(|number| {
                vec![number; if number % 20 == 19 { 500 } else { 1_000 + usize::from(number / 50) }]
            })
            .collect();
        for datagram in &burst {
            alice.send_to(datagram, in_addr).unwrap();
        }
        let (mut sent, until) = (0, Instant::now() + Duration::from_secs(10));
        while sent < burst.len() as u64 && Instant::now() < until {
            let turn = path.turn(Wait::at_most(Duration::from_secs(1)), &mut |_, socket, _, slot, len| {
                assert_eq!(socket, in_port);
                let to = if slot[0] % 10 == 5 { to_carol } else { to_bob };
                Forward::Send { socket: out_port, to, len }
            });
            sent += turn.unwrap().sent;
        }
        let mut buffer = [0; 4096];
        for datagram in &burst {
            let party = if datagram[0] % 10 == 5 { &carol } else { &bob };
            let (length, from) = party.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (datagram.as_slice(), out_addr));
        }
    });
}

/// Media ports don't ask for ICMP errors: whoever forges one would cost a packet.
#[test]
fn a_party_whose_port_is_closed_costs_nobody_else_a_packet() {
    each(|mut path, [inside, outside]| {
        let (in_port, in_addr) = path.bind(inside.parse().unwrap()).unwrap();
        let (out_port, _) = path.bind(outside.parse().unwrap()).unwrap();
        let closed = peer(outside).local_addr().unwrap();
        let (alice, bob) = (peer(inside), peer(outside));
        let open = bob.local_addr().unwrap();
        for number in 0..20u8 {
            alice.send_to(&[number], in_addr).unwrap();
            let mut carried = false;
            while !carried {
                let turn =
                    path.turn(Wait::at_most(Duration::from_secs(5)), &mut |_, socket, _, slot, len| {
                        assert_eq!(socket, in_port);
                        carried = true;
                        let to = if slot[0] % 2 == 0 { closed } else { open };
                        Forward::Send { socket: out_port, to, len }
                    });
                assert_eq!(turn.unwrap().dropped, 0);
            }
        }
        for number in (1..20u8).step_by(2) {
            let mut buffer = [0; 16];
            let (length, _) = bob.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], [number]);
        }
    });
}

#[test]
fn a_released_port_is_free_again_and_its_number_used_again() {
    each(|mut path, [_, at]| {
        let (socket, local) = path.bind(at.parse().unwrap()).unwrap();
        assert!(UdpSocket::bind(local).is_err());
        path.release(socket);
        assert!(UdpSocket::bind(local).is_ok());
        assert_eq!(path.bind(at.parse().unwrap()).unwrap().0, socket);
    });
}

#[test]
fn a_port_that_is_given_away_loses_nothing_that_came_before_or_comes_after() {
    each(|mut path, [_, at]| {
        let (socket, local) = path.bind(at.parse().unwrap()).unwrap();
        let (talker, mut heard) = (peer(at), 0);
        let mut count = |_, to, _, _: &mut [u8], _| {
            assert_eq!(to, socket);
            heard += 1;
            Forward::Drop(relay::Why::Idle)
        };
        talker.send_to(b"first", local).unwrap();
        path.turn(Wait::at_most(Duration::from_secs(5)), &mut count).unwrap();
        for _ in 0..10 {
            talker.send_to(b"while it is given away", local).unwrap();
        }
        let given = path.surrender(&mut count);
        assert_eq!(given.len(), 1);
        drop(path);
        talker.send_to(b"last", local).unwrap();
        given[0].set_nonblocking(true).unwrap();
        while given[0].recv(&mut [0; 64]).is_ok() {
            heard += 1;
        }
        assert_eq!(heard, 12);
    });
}

#[test]
fn what_waited_before_a_port_was_emptied_is_not_carried() {
    each(|mut path, [_, at]| {
        let (socket, local) = path.bind(at.parse().unwrap()).unwrap();
        peer(at).send_to(b"old", local).unwrap();
        path.empty(socket);
        let turn =
            path.turn(Wait::at_most(Duration::ZERO), &mut |_, _, _, _, _| panic!("nothing is left")).unwrap();
        assert_eq!(turn.received, 0);
    });
}
