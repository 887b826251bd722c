//! The time of a byte over loopback to the server's processor and back. No request can be faster.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::measure::{self, round};
use crate::place;
use crate::report::calibration::Quartiles;

const WARM_UP: usize = 200;
const TRIPS: usize = 5000;
/// Nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn measure(cpu: Option<usize>) -> io::Result<Quartiles> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || {
        if let Some(cpu) = cpu {
            place::pin(cpu);
        }
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok::<_, io::Error>(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut times = measure::histogram();
    for trip in 0..WARM_UP + TRIPS {
        let began = Instant::now();
        let mut byte = [7];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if trip >= WARM_UP {
            measure::record(&mut times, began.elapsed());
        }
    }
    drop(stream);
    echo.join().map_err(|_| io::Error::other("the echo panicked"))??;
    let micros = |quantile| round(times.value_at_quantile(quantile) as f64 / 1000.0);
    Ok(Quartiles { p50: micros(0.5), p99: micros(0.99) })
}
