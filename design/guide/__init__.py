"""What guides are made of besides their seat: sleeves, bars, labels; and what is measured on every one."""
