import subprocess
import sys


def test_types_alone_need_no_amqp_library() -> None:
    program = "import aimicromind_schemas, sys; print('aio_pika' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert ran.stdout.strip() == b"False"
